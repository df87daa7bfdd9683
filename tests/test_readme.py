"""What the README promises: its quickstart runs, and its commands and files are there."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

from foretune.commands.cli import parser
from foretune.searchers.registry import METHODS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_quickstart_runs_and_finds_a_good_learning_rate():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    assert len(code[1].strip().splitlines()) <= 20
    done = subprocess.run([sys.executable, "-c", code[1]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config, accuracy = re.fullmatch(r"\{'learning_rate': ([\d.e-]+)\} ([\d.]+)\n", done.stdout).groups()  # type: ignore[union-attr]
    assert 0.001 < float(config) < 0.1  # the optimum is 0.01
    assert float(accuracy) > 0.75


def test_pictures_and_pages_that_it_links_to_are_there():
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert len(links) >= 5
    assert [target for target in links if not (ROOT / target).exists()] == []


def test_commands_that_it_shows_exist():
    blocks = "".join(re.findall(r"```\n(.*?)```", README, re.DOTALL))
    commands = set(re.findall(r"^foretune ([a-z]+)", blocks, re.MULTILINE))
    assert {"tune", "studies", "report", "import"} <= commands
    known = next(a for a in parser()._actions if a.dest == "command").choices
    assert known is not None
    assert commands <= set(known)


def test_every_method_is_described():
    assert [name for name in METHODS if f"`{name}`" not in README] == []


def test_its_table_of_the_shipped_meta_dataset_is_what_the_pipeline_measured():
    measured = pd.read_csv(ROOT / "data/reports/light/summary.csv", index_col="method")
    rows = [
        f"| `{method}` | " + " | ".join(f"{row[n]:.3f} ± {row[f'{n} se']:.3f}" for n in ("1", "2", "5")) + " |"
        for method, row in measured.iterrows()
    ]
    assert [row for row in rows if row not in README] == []


def test_its_tables_of_published_data_are_what_was_measured():
    start = README.index("**Published tables**")
    blocks = re.split(r"\| (?:HyperRec|LCBench|TaskSet) \(", README[start:])[1:]
    for name, block in zip(("hyperrec", "lcbench", "taskset"), blocks, strict=True):
        measured = pd.read_csv(ROOT / f"data/reports/published/{name}.csv", index_col="method").iloc[:, :4]
        rows = re.findall(
            r"\| `([a-z0-9-]+)`(?: \(\d seeds?\))? \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]*)", block
        )
        assert len(rows) >= 4
        for method, *shown in rows:
            assert shown == ["" if pd.isna(v) else f"{v:.4f}" for v in measured.loc[method]], (name, method)

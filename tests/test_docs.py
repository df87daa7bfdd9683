"""What README and docs promise.

Examples run, commands and files are there, pages that tables decide are as measured.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

import foretune
from foretune.commands.cli import parser
from foretune.searchers.registry import METHODS

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "guide"
PAGES = sorted(
    {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")}
    - set((ROOT / "docs/templates").glob("*.md"))
)
README = (ROOT / "README.md").read_text()
WIDTH = 100


def blocks(path: Path, language: str = "python") -> list[str]:
    """The blocks of a Markdown file in one language ("" for those without), indented ones too."""
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^ *```$",
        path.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    return [
        "\n".join(line.removeprefix(indent) for line in block.split("\n"))
        for indent, block in found
    ]


def run(code: str, folder: Path) -> str:
    """What a script prints; it must end well and complain of nothing."""
    (folder / "example.py").write_text(code)
    command = [sys.executable, "example.py"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


def test_pages_that_tables_decide_are_as_measured():
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_every_method_is_described():
    page = (GUIDE / "methods.md").read_text()
    assert [name for name in METHODS if f"`{name}`" not in page] == []


def test_links_lead_somewhere():
    wrong = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            if "://" in target:
                continue
            if not file.exists():
                wrong.append(f"{page.relative_to(ROOT)}: {target}")
            elif anchor and anchor not in anchors(file):
                wrong.append(f"{page.relative_to(ROOT)}: {target} has no such heading")
    assert not wrong, "\n".join(wrong)


def anchors(page: Path) -> set[str]:
    """The headings of a page as a browser names them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [
        page.relative_to(ROOT / "docs").as_posix()
        for page in PAGES
        if page.is_relative_to(ROOT / "docs")
    ]
    assert [page for page in pages if page != "index.md" and f"({page})" not in index] == []


def test_lines_are_short_but_for_tables():
    wide = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in PAGES
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if len(line) > WIDTH and not line.lstrip().startswith("|")
    ]
    assert wide == []


def test_the_readme_is_short_and_its_test_command_is_what_ci_calls():
    assert len(README.splitlines()) <= 110
    assert re.search(r"^make test\b", README, re.MULTILINE)
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_the_rooms_stand_in_the_order_that_their_test_holds():
    page = (ROOT / "docs" / "architecture.md").read_text()
    tree = page[page.index("src/foretune/\n") : page.index("\npapers/")]
    shown = re.findall(r"^  ([a-z]+)(?:/|\.py)|  ([a-z]+)\.py", tree, re.MULTILINE)
    rooms = next(
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "tests" / "test_architecture.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS"
    )
    assert [a or b for a, b in shown] == list(rooms)


def test_commands_that_the_pages_show_exist():
    known = next(action for action in parser()._actions if action.dest == "subcommand").choices
    assert known is not None
    shown = {
        command
        for page in PAGES
        for command in re.findall(
            r"^ *foretune ([a-z]+)", "\n".join(blocks(page, "")), re.MULTILINE
        )
    }
    assert shown >= {"tune", "recommend", "studies", "report", "replay", "import"}
    assert shown <= set(known)


def test_the_readmes_example_is_short_and_uses_public_names():
    (example,) = blocks(ROOT / "README.md")
    assert len(example.splitlines()) <= 15
    used = {
        node.attr
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "foretune"
    }
    assert used and used <= set(foretune.__all__)


def test_the_readmes_table_is_what_was_measured():
    light, lcbench = (
        pd.read_csv(ROOT / f"data/reports/{name}.csv", index_col="method")
        for name in ("light/summary", "published/lcbench")
    )
    methods = {
        "random search": "random",
        "Hyperband": "hyperband",
        "greedy portfolio of past tasks": "portfolio",
        "foretune's default": "curve-transfer",
    }
    for title, method in methods.items():
        values = [*light.loc[method, ["1", "2", "5"]], *lcbench.loc[method, ["51", "102", "255"]]]
        row = " | ".join(f"{value:.3f}".removeprefix("0") for value in values)
        assert f"| {title} | {row} |" in README


def test_ask_and_tell_is_short_and_finds_a_good_learning_rate(tmp_path):
    example = blocks(GUIDE / "api.md")[0]
    assert len(example.strip().splitlines()) <= 20
    found = re.fullmatch(r"\{'learning_rate': ([\d.e-]+)\} ([\d.]+)\n", run(example, tmp_path))
    assert found is not None
    assert 0.001 < float(found[1]) < 0.1  # the optimum is 0.01
    assert float(found[2]) > 0.75


def test_a_durable_study_is_read_back_and_not_run_again(tmp_path):
    example = "\n".join(blocks(GUIDE / "api.md")[:3])
    first, second = (run(example, tmp_path) for _ in range(2))
    best = re.search(r"^(0\.\d+) in epoch", first, re.MULTILINE)
    assert best is not None and float(best[1]) > 0.8  # of the formula's best, 0.9
    assert second == first
    assert (tmp_path / "my-study" / "journal.jsonl").exists()


def test_examples_of_a_page_run_one_after_another(tmp_path):
    for name in ("api", "tasks"):
        (tmp_path / name).mkdir()
        run("\n".join(blocks(GUIDE / f"{name}.md")), tmp_path / name)
    assert foretune.Task.load(tmp_path / "tasks" / "mine.npz").split.tolist().count(2) == 12

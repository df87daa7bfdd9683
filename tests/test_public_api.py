"""The package's face, and that the documentation's first example works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import foretune

ROOT = Path(__file__).resolve().parents[1]


def blocks(path):
    """The Python blocks of a Markdown file."""
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def test_every_public_name_is_there():
    for name in foretune.__all__:
        assert getattr(foretune, name) is not None
    assert set(foretune.__all__) <= set(dir(foretune))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = foretune.nonsense


def test_importing_the_package_loads_nothing():
    code = (
        "import foretune, sys; sys.exit(any(m in sys.modules for m in ('numpy', 'torch', "
        "'ConfigSpace', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_quickstart_is_short_and_runs(tmp_path):
    quickstart = blocks(ROOT / "docs" / "api.md")[0]
    assert len(quickstart.splitlines()) <= 20
    (tmp_path / "quickstart.py").write_text(quickstart)
    runs = [
        subprocess.run(
            [sys.executable, "quickstart.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        for _ in range(2)
    ]
    for done in runs:
        assert done.returncode == 0 and done.stderr == "", done.stderr
    value = float(re.search(r"0\.\d+", runs[0].stdout)[0])
    assert value > 0.8  # of the formula's best, 0.9
    assert runs[1].stdout == runs[0].stdout  # the finished study is read back and not run again
    assert (tmp_path / "my-study" / "journal.jsonl").exists()


def test_the_other_examples_run_one_after_another(tmp_path):
    """Each example of the page, with what came before it."""
    (tmp_path / "all.py").write_text("\n".join(blocks(ROOT / "docs" / "api.md")))
    done = subprocess.run(
        [sys.executable, "all.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr

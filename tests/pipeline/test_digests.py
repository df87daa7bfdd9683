"""One digest a stage: what changes it, what does not, and that the committed ones are true."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from foretune.errors import BadInput
from foretune.pipeline.digests import FOLDER, Stages, digest_of, main

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

FILES = {
    "dvc.yaml": "stages: {tune: {cmd: python -m toy.tune --fast}}",
    "params.yaml": "tune: {methods: [greedy], budget: 3}",
    "toy/__init__.py": "",
    "toy/tune.py": '''
"""Tune."""
import math
from toy.registry import make

def main():
    """The command."""
    from toy.late import limit  # heavy
    from toy.shapes import Square
    return min(make("greedy"), limit(), math.inf, Square().area(), getattr(Square(), "side"))
''',
    "toy/registry.py": """
import importlib
from dataclasses import dataclass

@dataclass
class Method:
    where: str
    about: str
    options: tuple = ()

METHODS = {
    "greedy": Method("toy.greedy:Greedy", "takes the best"),
    "lazy": Method("toy.lazy:Lazy", "takes the first"),
}

def make(name):
    return importlib.import_module(METHODS[name].where)
""",
    "toy/greedy.py": "from toy.numbers import half\nRATE = 0.5\nclass Greedy:\n    rate = half(RATE)\n",
    "toy/lazy.py": "class Lazy:\n    rate = 1\n",
    "toy/late.py": "def limit():\n    return 7\n",
    "toy/numbers.py": "def half(x):\n    return x / 2\n",
    "toy/shapes.py": """
import ast
from abc import ABC, abstractmethod

class Shape(ABC):
    def area(self):
        return self.width() ** 2

    @abstractmethod
    def width(self): ...

class Square(Shape):
    @property
    def side(self):
        return 3

    def width(self):
        return Reader().visit(self.side)

    def colour(self):
        return "blue"

class Reader(ast.NodeVisitor):
    def visit_Name(self, node):
        return 1
""",
    "toy/other.py": "def half(x):\n    return x // 2\n",
}


@pytest.fixture
def digest(tmp_path: Path) -> Callable[..., str]:
    """The line of the toy's stage after files were written, or changed by (old, new)."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def changed(**edits: object) -> str:
        for name, edit in edits.items():
            path = tmp_path / "toy" / f"{name}.py"
            if isinstance(edit, str):
                path.write_text(edit)
            else:
                old, new = edit  # type: ignore[misc]
                assert old in path.read_text()
                path.write_text(path.read_text().replace(old, new))
        stages = Stages(tmp_path, ["toy"])
        return stages.line(stages.all[0])

    return changed


def test_the_committed_digests_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", f"--root={ROOT}"]) == 0, capsys.readouterr().err
    assert {path.stem for path in (ROOT / FOLDER).glob("*.sha")} == set(PIPELINE)


def test_stage_module_and_section_have_one_name_and_one_code_dependency() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    wrong = []
    for name, stage in PIPELINE.items():
        module = re.search(r"-m ([\w.]+)", stage["cmd"])[1]  # type: ignore[index]
        if module.rpartition(".")[2] != name or name not in stage["params"] or name not in params:
            wrong.append(f"{name}: module {module}, params {stage['params']}")
        code = [dep for dep in stage["deps"] if dep.startswith("data/code") or ".py" in dep]
        if code != [f"{FOLDER}/{name}.sha"]:
            wrong.append(f"{name}: code dependencies {code}")
    assert not wrong, "\n".join(wrong)


def test_nothing_that_git_keeps_is_deleted_before_a_stage_runs() -> None:
    """DVC deletes outputs without `persist`; the report's page is written whole, by rename."""
    outs = {
        path: options
        for stage in PIPELINE.values()
        for out in stage["outs"]
        for path, options in out.items()
    }
    assert [path for path, how in outs.items() if not how.get("persist")] == [
        "data/reports/benchmark.html"
    ]
    assert [path for path, how in outs.items() if how.get("cache", True)] == ["data/images"]


@pytest.mark.parametrize(
    "edit",
    [
        {"tune": ("# heavy", "# loads much")},
        {"tune": ('"""The command."""', '"""What the stage runs."""')},
        {"greedy": ("RATE = 0.5\n", '\n\nRATE = 0.5\n"""Of greed."""\n')},
        {"registry": ("takes the best", "takes what is best")},
        {"registry": ('    "lazy"', '    "third": Method("toy.lazy:Third", "new"),\n    "lazy"')},
        {"lazy": ("rate = 1", "rate = 2")},  # a method that nobody names
        {"other": ("x // 2", "x // 3")},  # a module that nobody imports
        {"late": ("def limit", "if TYPE_CHECKING:\n    from toy.other import half\ndef limit")},
        {
            "numbers": "from toy.late import limit\n",
            "late": "def half(x):\n    return x / 2\ndef limit():\n    return 7\n",
            "greedy": ("toy.numbers", "toy.late"),
        },  # `half` moved to another file
        {"shapes": ("blue", "red")},  # a method whose name nothing mentions
        {"shapes": ("    def colour", "    def grow(self):\n        return 9\n\n    def colour")},
    ],
    ids=["comment", "docstring", "lines", "about", "new method", "unnamed method", "unused module",
         "type checkers", "moved function", "unmentioned method", "another unmentioned method"],
)  # fmt: skip
def test_what_computes_the_same_has_the_same_digest(digest, edit) -> None:
    assert digest().split()[0] == digest(**edit).split()[0]


@pytest.mark.parametrize(
    "edit",
    [
        {"greedy": ("0.5", "0.6")},
        {"late": ("7", "8")},
        {"numbers": ("x / 2", "x / 3")},
        {"tune": ("min(", "max(")},
        {"tune": ("import math", "import cmath as math")},
        {"greedy": ("toy.numbers", "toy.other")},
        {"registry": ('best"', 'best", options=("fast",)')},
        {"tune": ('make("greedy")', 'make("lazy")')},
        {"shapes": ("** 2", "** 3")},
        {"shapes": ("return 3", "return 4")},
        {"shapes": ("self.side)", "self.side + 1)")},
        {"shapes": ("return 1", "return 2")},
        {"shapes": ('return self.width()', 'return len(self.colour()) * self.width()')},
        {"shapes": ("class Square(Shape):", "class Square(Shape):\n    unit = 1")},
    ],
    ids=["constant of a named method", "lazily imported module", "module of a named method",
         "own statement", "library", "same name from elsewhere", "options", "named in the text",
         "inherited method", "method named in a text", "method that a method calls",
         "method that a library calls", "method mentioned from now on", "constant of a class"],
)  # fmt: skip
def test_what_computes_something_else_has_another_digest(digest, edit) -> None:
    assert digest().split()[0] != digest(**edit).split()[0]


def test_same_name_from_elsewhere_where_both_modules_count(digest) -> None:
    """The set of statements is the same; which of two functions is meant is not."""
    both = (
        "from toy.numbers import half\nfrom toy import other\nprint(other.half(1))\nr = half(1)\n"
    )
    swapped = "from toy.other import half\nfrom toy import numbers as other\nprint(other.half(1))\nr = half(1)\n"
    assert digest(late=both) != digest(late=swapped)


def test_named_methods_are_those_of_the_section(digest, tmp_path: Path) -> None:
    before = digest()
    (tmp_path / "params.yaml").write_text("tune: {methods: [greedy, lazy]}")
    with_lazy = digest()
    assert before != with_lazy != digest(lazy=("rate = 1", "rate = 2"))
    # a list that the table does not know entirely names something else
    (tmp_path / "params.yaml").write_text("tune: {tasks: [lazy, letters]}")
    assert digest() == before


def test_the_command_names_what_is_stale_and_writes_it(
    tmp_path: Path, digest, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("src/foretune", "papers"):
        (tmp_path / package).mkdir(parents=True)
    (tmp_path / "papers" / "tune.py").write_text("X = 1\n")
    (tmp_path / "dvc.yaml").write_text("stages: {tune: {cmd: python -m papers.tune}}")
    root = f"--root={tmp_path}"
    assert main(["--check", root]) == 1 and "stale in data/code: tune" in capsys.readouterr().err
    assert not (tmp_path / FOLDER).exists()
    assert main([root]) == 0 and main(["--check", root]) == 0
    assert re.fullmatch(
        r"[0-9a-f]{64}  1 statements of 1 modules\n", (tmp_path / FOLDER / "tune.sha").read_text()
    )
    (tmp_path / "papers" / "tune.py").write_text("X = 2  # two\n")
    assert main(["--check", root]) == 1
    (tmp_path / "dvc.yaml").write_text("stages: {tune: {cmd: make tune}}")
    assert main(["--check", root]) == 2 and "runs no module" in capsys.readouterr().err


def test_the_code_of_a_method_is_its_own() -> None:
    """What kept runs depend on: other methods' code is not in it, and a name that is no longer
    there is refused, since its digest would stand for nothing.
    """
    names = ("random", "hyperband", "at2")
    one = {n: digest_of("foretune.searchers.registry", names=(n,)) for n in names}
    assert len(set(one.values())) == 3
    part = "foretune.searchers.gray_box.random:Random"
    assert digest_of("foretune.errors", part) != digest_of("foretune.errors")
    with pytest.raises(BadInput, match="defines no 'Chance'"):
        digest_of("foretune.searchers.gray_box.random:Chance")
    with pytest.raises(BadInput, match="no table of methods .* knows oracle"):
        digest_of("foretune.searchers.registry", names=("oracle",))


def test_an_import_by_dots_is_refused(digest) -> None:
    with pytest.raises(BadInput, match=r"late.py:1: import by the whole name"):
        digest(late="from .numbers import half\n")

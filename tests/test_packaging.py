"""What is installed is what is needed: imports against declarations, and the lock."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from foretune.errors import BadInput, extra

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# the distribution of a module, where it is not the module's name
DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "prefect_dask": "prefect-dask",
    "prefect_ray": "prefect-ray",
}
# the libraries that src/foretune/integrations works inside of; whoever wants that has them
HOSTS = ("huggingface", "keras", "lightning", "optuna", "ray")
# the extras that a tree may use without asking; `src/foretune` uses them inside `with extra(...)`
TREES = {
    "src/foretune": (),
    "flows": ("serve", "pipeline"),
    "papers": (),
    "docs": (),
    "tests": ("all", "dev", *HOSTS),
}
# declared for its version alone (what Prefect's server works with), and what Prefect's and MLflow's
# servers import themselves: drivers of PostgreSQL, MLflow's login
BOUNDS = {"asyncpg", "fastapi", "flask-wtf", "psycopg"}
LOCAL = {"foretune", "papers", "tests"} | {
    path.stem
    for folder in ("flows", "bench", "tests/toys")
    for path in (ROOT / folder).glob("*.py")
}


def distribution(text: str) -> str:
    """The normalised name in a requirement such as `Prefect-Ray>=0.6; python_version < "3.15"`."""
    name = re.match(r"[\w.-]+", text)
    assert name is not None, text
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def declared(*extras: str) -> set[str]:
    """Distributions of the core and of extras, those that extras name included."""
    texts = list(PROJECT["dependencies"])
    for one in extras:
        for text in PROJECT["optional-dependencies"][one]:
            inner = re.fullmatch(r"foretune\[(.*)\]", text)
            texts += declared(*inner[1].split(",")) if inner else [text]
    return {distribution(text) for text in texts}


def used(path: Path) -> Iterator[tuple[str, str | None, int]]:
    """Distributions that a file imports or runs (`-m NAME`), the extra of the `with extra(...)`
    around it, and the line.
    """

    def walk(node: ast.AST, asked: str | None) -> Iterator[tuple[str, str | None, int]]:
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(module=str(module), level=0):
                names = [module]
            case ast.List(elts=parts):
                texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
                names = [
                    after
                    for flag, after in pairwise(texts)
                    if flag == "-m" and isinstance(after, str)
                ]
            case ast.With(
                items=[ast.withitem(ast.Call(ast.Name("extra"), [ast.Constant(value=name), *_]))]
            ):
                asked = name
        for name in names:
            module = name.partition(".")[0]
            if module not in sys.stdlib_module_names and module not in LOCAL:
                yield distribution(DISTRIBUTIONS.get(module, module)), asked, node.lineno
        for child in ast.iter_child_nodes(node):
            yield from walk(child, asked)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), None)


def test_imports_are_declared_where_they_may_be_used_and_nothing_else_is() -> None:
    wrong, product = [], set(BOUNDS)
    for tree, extras in TREES.items():
        for path in sorted((ROOT / tree).rglob("*.py")):
            for name, asked, line in used(path):
                if name not in declared(*extras, *([asked] if asked else [])):
                    where = " or ".join(["the core", *extras])
                    wrong.append(f"{path.relative_to(ROOT)}:{line}: {name} is not in {where}")
                if tree in ("src/foretune", "flows", "papers"):
                    product.add(name)
    wrong += [
        f"pyproject.toml declares {name}, which nothing imports"
        for name in sorted(declared("all") - product)
    ]
    assert not wrong, "\n".join(wrong)


def test_all_holds_every_extra_of_the_product() -> None:
    others = set(PROJECT["optional-dependencies"]) - {"all", "bench", "dev", *HOSTS}
    assert declared("all") == declared(*others) and others


def test_the_lock_pins_what_is_declared_and_names_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = {distribution(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    assert declared("all", "dev") - pinned == set()
    assert re.search(r"://|--(extra-)?index-url|--find-links", lock) is None


def test_an_extra_that_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(BadInput) as caught, extra("serve", "storage 's3://a'"):
        import fsspec  # noqa: F401
    assert str(caught.value) == (
        "storage 's3://a' needs a package that is not installed (fsspec): "
        "pip install 'foretune[serve]'"
    )


def test_drawing_icons_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from foretune.tasks.embedded.icons import rasterise

    monkeypatch.setitem(sys.modules, "fontTools.pens.basePen", None)
    with pytest.raises(BadInput, match=r"pip install 'foretune\[pipeline\]'"):
        rasterise('<svg viewBox="0 0 1 1"><path d="M0 0h1v1z"/></svg>')

"""The house: every module stands in a room, and imports point down the list of rooms only."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "foretune"
# From the street to the ground: a room may import itself and what stands below it.
ROOMS = (
    "commands",
    "integrations",
    "service",
    "pipeline",
    "views",
    "evaluation",
    "running",
    "params",
    "recommenders",
    "searchers",
    "training",
    "study",
    "stores",
    "history",
    "gaussian",
    "tasks",
    "space",
    "packages",
    "shipped",
    "files",
    "errors",
)
AT_THE_TOP = {"__init__", "__main__", "errors", "files", "packages", "params"}
MODULES = {
    ".".join(("foretune", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# "foretune.tune" -> the module that this public name is loaded from, lazily
PUBLIC = {
    f"foretune.{key.value}": value.value
    for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")))
    if isinstance(node, ast.Dict)
    for key, value in zip(node.keys, node.values, strict=True)
    if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Names of the modules that a file imports, wherever in it, and whether only type checkers read
    that import. Public names of `foretune` stand for their modules, texts such as
    "foretune.a.b:C" (which registries import) for what they name, relative imports for themselves.
    """

    def walk(nodes: list[ast.AST], typing: bool) -> Iterator[tuple[str, bool]]:
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from ((alias.name, typing) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    inside = f"{'.' * node.level}{node.module or ''}.{alias.name}"
                    named = PUBLIC.get(inside, inside)
                    yield (named if named in MODULES or node.level else str(node.module)), typing
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if place := re.fullmatch(r"(foretune(?:\.\w+)+)(?::\w+)?", node.value):
                    yield place[1], True  # a name, loaded when it is asked for: no circle
            else:
                only_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
                yield from walk(list(ast.iter_child_nodes(node)), typing or only_types)

    yield from walk([ast.parse(path.read_text(encoding="utf-8"))], False)


def test_imports_in_disguise_are_seen(tmp_path: Path) -> None:
    """A relative import, a public name, and a text from which a module is loaded."""
    file = tmp_path / "disguised.py"
    file.write_text(
        "def run():\n"
        "    from ..commands import tune\n"
        "    from foretune import tune\n"
        "    import_module('foretune.commands.tune')\n"
        "    load('foretune.commands.tune:run')\n",
        encoding="utf-8",
    )
    assert [name for name, _ in imports(file)] == [
        "..commands.tune",
        "foretune.commands.api",
        "foretune.commands.tune",
        "foretune.commands.tune",
    ]


def room(module: str) -> str:
    """The first name below `foretune`."""
    return module.split(".")[1] if "." in module else ""


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Sets of modules that import each other, directly or through others."""

    def reach(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            for name in arrows[waiting.pop()] - seen:
                seen.add(name)
                waiting.append(name)
        return seen

    reached = {module: reach(module) for module in arrows}
    found = {
        tuple(sorted(b for b in reached[a] if a in reached[b])) for a in arrows if a in reached[a]
    }
    return [list(circle) for circle in sorted(found)]


def test_every_module_has_a_room_and_imports_point_down() -> None:
    """Lazy imports and those for type checkers are held to it too; circles inside a room count as
    well.
    """
    wrong = []
    arrows: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, path in MODULES.items():
        if path.parent == PACKAGE and path.stem not in AT_THE_TOP:
            wrong.append(f"{path.name} stands at the top")
        elif room(module) and room(module) not in (*ROOMS, "__main__"):
            wrong.append(f"{module} stands in no room of the list")
        for name, typing in imports(path):
            if name.startswith("."):
                wrong.append(f"{module} imports {name}: name the module whole")
            if name == "foretune" and "__version__" not in path.read_text(encoding="utf-8"):
                wrong.append(f"{module} imports foretune itself: name the module that is meant")
            if name in MODULES and name != "foretune" and room(module) in ROOMS:
                arrows[module] |= set() if typing else {name}
                if room(name) not in ROOMS or ROOMS.index(room(name)) < ROOMS.index(room(module)):
                    wrong.append(f"{module} imports {name}, which stands above it")
    wrong += [f"circle: {', '.join(circle)}" for circle in circles(arrows)]
    assert not wrong, "\n".join(wrong)


LOGGERS = {"foretune.views.tracking", "foretune.views.mlflow_runs"}


def test_engines_stay_outside() -> None:
    """Only two modules import mlflow, only flows/ prefect; a flow never calls DVC, which holds a
    lock; the package never imports flows or papers.
    """
    flows = {path.stem for path in (ROOT / "flows").glob("*.py")}
    wrong = []
    for module, path in MODULES.items():
        used = {name.split(".")[0] for name, _ in imports(path)}
        allowed = {"mlflow"} if module in LOGGERS else set()
        wrong += [
            f"{module} imports {name}"
            for name in used
            & {"prefect", "prefect_ray", "prefect_dask", "dvc", "mlflow", "papers", *flows}
            - allowed
        ]
    for path in (ROOT / "flows").glob("*.py"):
        wrong += [
            f"{path.name} imports dvc" for name, _ in imports(path) if name.split(".")[0] == "dvc"
        ]
    assert not wrong, "\n".join(wrong)


def without_encoding(path: Path) -> list[str]:
    """Calls in a file that read or write text in whatever encoding the locale has."""
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        given = {word.arg: word.value for word in node.keywords}
        mode = given.get("mode", node.args[1] if len(node.args) > 1 else None)
        text = name in ("read_text", "write_text") or (
            name == "open"
            and isinstance(node.func, ast.Name)
            and not (isinstance(mode, ast.Constant) and "b" in str(mode.value))
        )
        # subprocess: `text=True` decodes by the locale
        decodes = given.get("text", given.get("universal_newlines"))
        text = text or (isinstance(decodes, ast.Constant) and decodes.value is True)
        named = "encoding" in given or (name == "read_text" and node.args)
        if text and not named:
            wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name} without encoding=")
    return wrong


def test_texts_are_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    """Files are written as UTF-8, so they are read as UTF-8; the locale says nothing of them."""
    folders = (ROOT / "src", ROOT / "flows")
    wrong = [line for f in folders for path in f.rglob("*.py") for line in without_encoding(path)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "call", ["p.read_text()", "p.write_text('')", "open('a')", "open('a', 'w')", "run(text=True)"]
)
def test_a_text_without_its_encoding_is_found(call: str) -> None:
    path = ROOT / ".encoding-probe.py"
    path.write_text(call, encoding="utf-8")
    try:
        assert len(without_encoding(path)) == 1
    finally:
        path.unlink()

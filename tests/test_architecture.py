"""The house: every module stands in a room, and imports point down the list of rooms only."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "foretune"
# From the street to the ground: a room may import itself and what stands below it.
ROOMS = (
    "commands",
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


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Names of the modules that a file imports, wherever in it, and whether only type checkers read
    that import.
    """

    def walk(nodes: list[ast.AST], typing: bool) -> Iterator[tuple[str, bool]]:
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from ((alias.name, typing) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inside = f"{node.module}.{alias.name}"
                    yield (inside if inside in MODULES else node.module), typing
            else:
                only_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
                yield from walk(list(ast.iter_child_nodes(node)), typing or only_types)

    yield from walk([ast.parse(path.read_text())], False)


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
            if name in MODULES and name != "foretune" and room(module) in ROOMS:
                arrows[module] |= set() if typing else {name}
                if room(name) not in ROOMS or ROOMS.index(room(name)) < ROOMS.index(room(module)):
                    wrong.append(f"{module} imports {name}, which stands above it")
    wrong += [f"circle: {', '.join(circle)}" for circle in circles(arrows)]
    assert not wrong, "\n".join(wrong)


def test_engines_stay_outside() -> None:
    """Only the tracker imports mlflow, only flows/ prefect; a flow never calls DVC, which holds a
    lock; the package never imports flows or papers.
    """
    flows = {path.stem for path in (ROOT / "flows").glob("*.py")}
    wrong = []
    for module, path in MODULES.items():
        used = {name.split(".")[0] for name, _ in imports(path)}
        allowed = {"mlflow"} if module == "foretune.views.tracking" else set()
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

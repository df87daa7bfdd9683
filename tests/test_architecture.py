"""The import rules of the design, and that `dvc.yaml` names the modules that each stage really uses."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "foretune"
MODULES = {
    ".".join(("foretune", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
ENGINES = {"prefect", "prefect_ray", "prefect_dask", "dvc", "mlflow"}
NUMBERS = ("space", "spaces", "parameters", "acquisition", "gp", "spectral", "kernels")
METHODS = ("searchers", "recommenders")
RUNNING = (
    "objective",
    "training",
    "tracking",
    "runner",
    "workers",
    "tuning",
    "collect",
    "networks",
    "optimizers",
    "activations",
)
FACES = ("cli", "commands", "report", "display", "run_views")
SEARCHERS_THAT_TRAIN = {
    "foretune.searchers.autohyper",  # its learning rates come from networks that it trains for a few epochs
    "foretune.recommenders.trunk",  # reads images with the trunk of a network
}


def imports(path: Path, *, lazy: bool = True) -> Iterator[str]:
    """Names of the modules that a file imports, those for type checkers only left out; without `lazy`, those of its top level."""

    def walk(nodes: list[ast.AST]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from walk(list(ast.iter_child_nodes(node)))

    yield from walk([ast.parse(path.read_text())])


@cache
def closure(module: str) -> frozenset[str]:
    """`module` and the modules of foretune that it uses, directly or through others.

    What other modules import inside functions is left out: `Replay` needs nothing of what `Training`, beside it, loads.
    """
    found, waiting = {module}, [module]
    while waiting:
        current = waiting.pop()
        for name in imports(MODULES[current], lazy=current == module):
            if name in MODULES and name not in found and name != "foretune":
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def layer(module: str) -> str:
    """The part of the package that a module belongs to: its first name below `foretune`."""
    return module.split(".")[1] if "." in module else ""


def of(layers: tuple[str, ...]) -> list[str]:
    return [name for name in MODULES if layer(name) in layers]


@pytest.mark.parametrize("module", MODULES)
def test_engines_stay_outside(module: str) -> None:
    used = {name.split(".")[0] for name in imports(MODULES[module])} & ENGINES
    allowed = {"mlflow"} if module == "foretune.views.tracking" else set()
    assert used <= allowed, (
        f"{module} imports {used - allowed}; only tracking.py may import mlflow, only flows/ prefect"
    )


@pytest.mark.parametrize("module", of(NUMBERS))
def test_numbers_import_no_data_nor_methods(module: str) -> None:
    forbidden = {"meta", "study", "images", *METHODS, *RUNNING, *FACES}
    assert not [n for n in imports(MODULES[module], lazy=False) if n.startswith("foretune.") and layer(n) in forbidden]


@pytest.mark.parametrize("module", of(("meta", "study", "images", "curve_table", "collection")))
def test_data_imports_no_methods_nor_what_runs(module: str) -> None:
    assert not [
        n for n in imports(MODULES[module]) if n.startswith("foretune.") and layer(n) in {*METHODS, *RUNNING, *FACES}
    ]


@pytest.mark.parametrize("module", of(METHODS))
def test_methods_import_nothing_that_runs_or_shows(module: str) -> None:
    if module not in SEARCHERS_THAT_TRAIN:
        found = [n for n in imports(MODULES[module]) if n.startswith("foretune.") and layer(n) in {*RUNNING, *FACES}]
        assert not found, f"{module} imports {found}"


@pytest.mark.parametrize("module", of((*RUNNING, "meta", "study", "images", "evaluation")))
def test_only_faces_import_faces(module: str) -> None:
    if not module.startswith("papers.page.report"):
        assert not [
            n for n in imports(MODULES[module]) if n.startswith("foretune.") and layer(n) in {"cli", "commands"}
        ]


@pytest.mark.parametrize("path", sorted((ROOT / "flows").glob("*.py")), ids=lambda path: path.name)
def test_flows_call_no_dvc(path: Path) -> None:
    assert "dvc" not in {name.split(".")[0] for name in imports(path)}, "DVC holds a lock; a flow never calls it"


def test_flows_import_prefect_and_the_package_never_imports_flows() -> None:
    flows = {path.stem for path in (ROOT / "flows").glob("*.py")}
    for module, path in MODULES.items():
        assert not flows & {name.split(".")[0] for name in imports(path)}, module


SEARCHES = {
    "siamese": ("siamese-bo", "random", "portfolio"),
    "task_aware": ("task-aware-hyperband", "hyperband", "bohb"),
}  # what these stages make by name
LEARNERS = {"siamese": ("siamese",)}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def command_module(command: str) -> str:
    found = re.search(r"-m (foretune[\w.]*)", command)
    assert found, f"stage command {command!r} runs no module of foretune"
    return found[1]


def modules_of(stage: str) -> set[str]:
    """The files of the modules that a stage's command uses: what it imports, and the methods and recommenders that its parameters name."""
    from foretune.recommenders.registry import RECOMMENDERS
    from foretune.searchers.registry import METHODS as SEARCHERS

    params = yaml.safe_load((ROOT / "params.yaml").read_text()).get(stage, {})
    used = set(closure(command_module(STAGES[stage]["cmd"])))
    for name in params.get("methods", SEARCHES.get(stage, ())):
        used |= closure(SEARCHERS[name].where.partition(":")[0])
    for name in (
        *params.get("recommenders", ()),
        *(params.get("names", ()) if stage == "recommenders" else ()),
        *LEARNERS.get(stage, ()),
    ):
        used |= closure(RECOMMENDERS[name].where.partition(":")[0])
    return {str(MODULES[name].relative_to(ROOT)) for name in used if MODULES[name].name != "__init__.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_stages_name_the_modules_they_use(stage: str) -> None:
    """`dvc.yaml` can be mended with the list that this prints."""
    files = modules_of(stage)
    named = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert named == files, f"missing: {sorted(files - named)}; not used: {sorted(named - files)}"


@pytest.mark.parametrize("stage", STAGES)
def test_stages_and_sections_share_names(stage: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section in STAGES[stage].get("params", []):
        assert section in params
    assert stage in params or not STAGES[stage].get("params")


def test_meta_dataset_stays_in_git_and_is_continued() -> None:
    (out,) = STAGES["meta_dataset"]["outs"]
    assert out == {"data/meta/light": {"cache": False, "persist": True}}

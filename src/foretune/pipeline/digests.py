"""What a stage's code computes, as one digest: the only code dependency that a stage of `dvc.yaml`
has.

    python -m foretune.pipeline.digests [--check] [--modules STAGE]

writes `data/code/STAGE.sha` (the digest, and of how much it is) for every stage; `--check` writes
nothing, and ends with 1 where one is stale, naming it.

What counts: the statements of the stage's module, and each function, class and constant of other
modules that they use, directly or through others, lazily imported or not; what else such a module
does as it is imported; templates beside it; and the methods that the stage's params section names,
or that stand as text in a statement that makes methods by name.

What does not: comments, docstrings, line breaks, imports for type checkers, the file in which a
statement stands and its place there, definitions that nothing of the above uses, methods of a class
whose name nothing of the above mentions (`foretune.pipeline.reach`), other tuning methods, and what
is said about any.

So a function may move from one file to another, and a docstring be mended, and nothing is stale.
Import statements are left out as such; instead every statement is digested with what its names
stand for: the definition itself for a name of this project, `module.name` for one of a library. A
*table of methods* is a dictionary of calls whose first argument is `"module:Class"`
(`foretune.searchers.registry`); only the entries that a stage names count, each without its second
argument, the sentence about it.
"""

import argparse
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.pipeline.reach import Code, Reach

PACKAGES = ("src/foretune", "papers")  # whose statements count, from the repository's root
FOLDER = Path("data/code")


@dataclass(frozen=True)
class Stage:
    """A stage of `dvc.yaml`: its module, and its section of `params.yaml`."""

    name: str
    module: str
    params: Mapping[str, Any]


class Stages:
    """The stages of the repository in `root`."""

    def __init__(self, root: Path, packages: Sequence[str] = PACKAGES):
        self.root = root
        self.code = Code([root / package for package in packages])

    @cached_property
    def all(self) -> list[Stage]:
        """In the order of `dvc.yaml`. Raises `BadInput` for a stage whose command runs no module."""
        try:
            stages = yaml.safe_load((self.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
            params = yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise BadInput(f"{self.root}: no pipeline can be read there: {error}") from error
        out = []
        for name, stage in stages.items():
            if (run := re.search(r"python -m ([\w.]+)", stage["cmd"])) is None:
                raise BadInput(f"dvc.yaml: {name}: {stage['cmd']!r} runs no module (python -m ...)")
            out.append(Stage(name, run[1], params.get(name) or {}))
        return out

    def reach(self, stage: Stage) -> Reach:
        """What counts for a stage."""
        return self.code.reach([stage.module], stage.params)

    def line(self, stage: Stage) -> str:
        """The content of the stage's file."""
        found = self.reach(stage)
        modules = set(found.statements.values())
        return f"{found.digest()}  {len(found.statements)} statements of {len(modules)} modules\n"

    def stale(self) -> dict[Path, str]:
        """Files that are not as they should be, with what they should hold."""
        wanted = {self.root / FOLDER / f"{s.name}.sha": self.line(s) for s in self.all}
        return {
            path: line
            for path, line in wanted.items()
            if not path.is_file() or path.read_text(encoding="utf-8") != line
        }


@cache
def running() -> Code:
    """The code that runs: this package, and `papers` where it can be imported."""
    folders = [Path(__file__).resolve().parents[1]]
    papers = importlib.util.find_spec("papers")
    if papers is not None and papers.origin:
        folders.append(Path(papers.origin).resolve().parent)
    return Code(folders)


@cache
def digest_of(*roots: str, names: tuple[str, ...] = ()) -> str:
    """The digest of `roots`, modules or single definitions (`module:name`), of all that they use,
    and of the methods or recommenders `names`: what a kept result of theirs depends on.
    """
    found = running().reach(roots, {"names": names})
    if names and not found.methods:
        raise BadInput(f"no table of methods that {', '.join(roots)} use knows {', '.join(names)}")
    return found.digest()


def main(argv: Sequence[str] | None = None) -> int:
    """Write the digests of the stages' code."""
    parser = argparse.ArgumentParser(
        prog="python -m foretune.pipeline.digests", description=main.__doc__
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where one is stale"
    )
    parser.add_argument("--modules", metavar="STAGE", help="list what counts for it, by module")
    parser.add_argument("--root", type=Path, default=Path(), help="of the repository")
    given = parser.parse_args(argv)
    try:
        stages = Stages(given.root)
        if given.modules:
            by_name = {stage.name: stage for stage in stages.all}
            if given.modules not in by_name:
                raise BadInput(f"no stage {given.modules!r}; there are {', '.join(by_name)}")
            found = stages.reach(by_name[given.modules])
            for module in sorted(found.modules):
                mine = [s for s, name in found.statements.items() if name == module]
                print(module, *sorted({name for s in mine for name in found.names(s)}))
            return 0
        stale = stages.stale()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.check and stale:
        names = ", ".join(path.stem for path in stale)
        print(
            f"stale in {FOLDER}: {names} (the code computes something else than when they were "
            "written); write them: python -m foretune.pipeline.digests, then run: make repro",
            file=sys.stderr,
        )
        return 1
    for path, line in stale.items():
        write_atomic(path, line)
        print(f"{path}: {line}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a stage's code computes, as one digest: the only code dependency that a stage of `dvc.yaml`
has.

    python -m foretune.pipeline.digests [--check] [--modules STAGE]

writes `data/code/STAGE.sha` (the digest, and how many modules it is of) for every stage; `--check`
writes nothing, and ends with 1 where one is stale, naming it.

| what counts                                                            | what does not           |
|------------------------------------------------------------------------|-------------------------|
| statements of the stage's module and of all modules that it imports,   | comments, docstrings,   |
| directly or through others, inside functions too                       | line breaks, imports for type checkers |
| methods that its params section names, or the text of a module that makes methods by name | all other methods, and what is said about any |
| templates beside these modules                                         | which file a statement stands in, and their order |

So a function may move from one file to another, and a docstring be mended, and nothing is stale.
Import statements are left out as such; instead every statement is digested with what its names
stand for: the definition itself for a name of this project, `module.name` for one of a library. A
*table of methods* is a dictionary of calls whose first argument is `"module:Class"`
(`foretune.searchers.registry`); only the entries that a stage names count, each without its second
argument, the sentence about it.
"""

import argparse
import ast
import hashlib
import importlib.util
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from foretune.errors import BadInput
from foretune.files import write_atomic

PACKAGES = ("src/foretune", "papers")  # whose statements count, from the repository's root
FOLDER = Path("data/code")
PLACE = re.compile(r"[A-Za-z_]\w*(\.\w+)+:\w+")  # module:Class


@dataclass(frozen=True)
class Entry:
    """A method in a table of methods: its module, and the call that describes it."""

    module: str
    call: ast.Call


@dataclass(eq=False)
class Module:
    """A parsed file.

    Attributes:
        statements: those of the top level that count.
        defined: the statement that defines a name of the top level.
        names: what imported names stand for: (module, attribute), the latter empty for a module.
        texts: the strings that it holds.
        tables: tables of methods, by their name.
    """

    path: Path
    statements: list[ast.stmt] = field(default_factory=list)
    defined: dict[str, ast.stmt] = field(default_factory=dict)
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)
    tables: dict[str, dict[str, Entry]] = field(default_factory=dict)

    @property
    def templates(self) -> list[Path]:
        """Files that are filled in by the module's folder."""
        return sorted((self.path.parent / "templates").glob("*.html"))


class Code:
    """The modules of some packages, given by their folders, parsed as they are asked for."""

    def __init__(self, folders: Collection[Path]):
        self.paths: dict[str, Path] = {}
        for folder in folders:
            if not folder.is_dir():
                raise BadInput(f"{folder} is no folder of Python modules; run from the repository")
            for path in sorted(folder.rglob("*.py")):
                parts = path.relative_to(folder.parent).with_suffix("").parts
                self.paths[".".join(parts).removesuffix(".__init__")] = path
        self.packages = {folder.name for folder in folders}
        self._modules: dict[str, Module] = {}
        self._imported: dict[str, set[str]] = {}
        self._lines: dict[ast.AST, str] = {}

    def module(self, name: str) -> Module:
        """A module, parsed once. Raises `BadInput` for one that is not there."""
        if name not in self._modules:
            if name not in self.paths:
                raise BadInput(f"there is no module {name} in {', '.join(sorted(self.packages))}")
            self._modules[name] = _parsed(self.paths[name])
        return self._modules[name]

    def imported(self, name: str) -> set[str]:
        """The modules of these packages that a module imports, or names as `module:Class` outside
        a table of methods.
        """
        if name not in self._imported:
            mine = self.module(name)
            found = {text.partition(":")[0] for text in mine.texts if PLACE.fullmatch(text)}
            for table in mine.tables.values():
                found -= {entry.module for entry in table.values()}
            for target, attribute in mine.names.values():
                whole = f"{target}.{attribute}"
                found.add(whole if whole in self.paths else target)
            self._imported[name] = {
                other for other in found if other in self.paths and other not in self.packages
            }
        return self._imported[name]

    def closure(self, *names: str) -> set[str]:
        """Modules and all that they import, directly or through others."""
        found, waiting = set(names), list(names)
        while waiting:
            new = self.imported(waiting.pop()) - found
            found |= new
            waiting += new
        return found

    def digest(
        self,
        modules: Collection[str],
        entries: Collection[Entry] = (),
        parts: Collection[str] = (),
    ) -> str:
        """The digest of the statements and templates of `modules`, of `entries` of their tables,
        and of single definitions, `parts`, named as `module:name`.
        """
        lines = set()
        for name in modules:
            mine = self.module(name)
            lines |= {self._line(statement, name) for statement in mine.statements}
            lines |= {_hash(path.read_bytes()) for path in mine.templates}
            for table in mine.tables.values():
                lines |= {self._line(e.call, name) for e in table.values() if e in entries}
        for part in parts:
            name, _, defined = part.partition(":")
            lines.add(self._line(self.module(name).defined[defined], name))
        return _hash("\n".join(sorted(lines)).encode())

    def _line(self, node: ast.AST, module: str) -> str:
        """A statement with what its names stand for, hashed."""
        if node in self._lines:
            return self._lines[node]
        mine, stands_for = self.module(module), {}
        for part in ast.walk(node):
            match part:
                case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in mine.names:
                    target = ".".join(filter(None, mine.names[name]))
                    if target in self.paths:
                        stands_for[f"{name}.{attribute}"] = self._meaning(target, attribute)
                case ast.Name(id=name) if name in mine.names:
                    stands_for[name] = self._meaning(*mine.names[name])
                case ast.Name(id=name) if name in mine.defined and name not in mine.tables:
                    stands_for[name] = _dump_hash(mine.defined[name])
        self._lines[node] = _hash(f"{dump(node)}{sorted(stands_for.items())}".encode())
        return self._lines[node]

    def _meaning(self, module: str, attribute: str) -> str:
        """The definition that `attribute` of `module` is, wherever it stands; the name of what is
        a library's.
        """
        whole = f"{module}.{attribute}" if attribute else module
        if whole in self.paths:
            return whole.rpartition(".")[2]
        if module not in self.paths:
            return whole
        mine = self.module(module)
        if attribute in mine.names:
            return self._meaning(*mine.names[attribute])
        return _dump_hash(mine.defined[attribute]) if attribute in mine.defined else attribute

    def entries(self, modules: Collection[str], params: Mapping[str, Any]) -> list[Entry]:
        """The entries of tables in `modules` that `params` name (a text, or a list of texts that
        are all in the table), or that stand as text in a module that imports the table's.
        """
        found = []
        for name in modules:
            for table in self.module(name).tables.values():
                named: set[str] = set()
                for value in params.values():
                    texts = [value] if isinstance(value, str) else value
                    if isinstance(texts, (list, tuple)) and set(map(str, texts)) <= set(table):
                        named |= set(map(str, texts))
                for other in modules:
                    if other != name and name in self.imported(other):
                        named |= self.module(other).texts & set(table)
                found += [table[key] for key in sorted(named)]
        return found

    def whole(
        self, names: Collection[str], params: Mapping[str, Any]
    ) -> tuple[set[str], list[Entry]]:
        """All modules that `names` use with these `params`, methods included, and the entries of
        those methods.
        """
        modules, entries = self.closure(*names), []
        while True:
            entries = self.entries(modules, params)
            more = self.closure(*modules, *(e.module for e in entries))
            if more == modules:
                return modules, entries
            modules = more


def _parsed(path: Path) -> Module:
    tree = _without_types(ast.parse(path.read_text(encoding="utf-8")))
    out, constants = Module(path), {}
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    out.names[bound] = (alias.name if alias.asname else bound, "")
                    if bound != alias.name:  # `import a.b` binds a, and loads a.b
                        out.names[alias.name] = (alias.name, "")
            case ast.ImportFrom(module=str(module), level=0):
                for alias in node.names:
                    out.names[alias.asname or alias.name] = (module, alias.name)
            case ast.ImportFrom():
                raise BadInput(f"{path}:{node.lineno}: import by the whole name, not by dots")
    tree = _Bare().visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            out.texts.add(node.value)
    for statement in tree.body:
        for name in _bound(statement):
            out.defined[name] = statement
            value = getattr(statement, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                constants[name] = value.value
            if isinstance(value, ast.Dict) and (table := _table(value, constants)):
                out.tables[name] = table
    out.statements = [
        statement
        for statement in tree.body
        if not isinstance(statement, ast.Pass)
        and not {*out.tables, "__all__"} & set(_bound(statement))
    ]
    return out


def _without_types(tree: ast.Module) -> ast.Module:
    """The same without what only type checkers read."""

    class Types(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> Any:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return Types().visit(tree)


class _Bare(ast.NodeTransformer):
    """Leaves out docstrings (any string that stands alone) and import statements."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if alone else node

    def visit_Import(self, node: ast.Import) -> ast.stmt:
        return ast.Pass()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        return ast.Pass()


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement of the top level defines."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            for target in targets:
                yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def _table(value: ast.Dict, constants: Mapping[str, str]) -> dict[str, Entry]:
    """The entries of a table of methods; empty for any other dictionary."""
    out = {}
    for key, call in zip(value.keys, value.values, strict=True):
        match key, call:
            case ast.Constant(value=str(name)), ast.Call(args=[place, *_]):
                pass
            case _:
                return {}
        text = constants.get(place.id) if isinstance(place, ast.Name) else None
        text = place.value if isinstance(place, ast.Constant) else text
        if not isinstance(text, str) or not PLACE.fullmatch(text):
            return {}
        module, _, kind = text.partition(":")
        bare = ast.Call(call.func, [ast.Constant(kind), *call.args[2:]], call.keywords)
        out[name] = Entry(module, bare)
    return out


def dump(node: Any) -> str:
    """A syntax tree as text that is the same for all versions of Python: no places, no empty
    fields, statements that do nothing left out.
    """
    if isinstance(node, ast.AST):
        parts = (
            f"{name}={dump(value)}"
            for name, value in ast.iter_fields(node)
            if name not in ("ctx", "kind", "type_comment") and value not in (None, [])
        )
        constant = isinstance(node, ast.Constant)
        return f"{type(node).__name__}({repr(node.value) if constant else ','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(dump(n) for n in node if not isinstance(n, ast.Pass))}]"
    return repr(node)


@cache
def _dump_hash(node: ast.AST) -> str:
    return _hash(dump(node).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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
            stages = yaml.safe_load((self.root / "dvc.yaml").read_text())["stages"]
            params = yaml.safe_load((self.root / "params.yaml").read_text())
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise BadInput(f"{self.root}: no pipeline can be read there: {error}") from error
        out = []
        for name, stage in stages.items():
            if (run := re.search(r"python -m ([\w.]+)", stage["cmd"])) is None:
                raise BadInput(f"dvc.yaml: {name}: {stage['cmd']!r} runs no module (python -m ...)")
            out.append(Stage(name, run[1], params.get(name) or {}))
        return out

    def modules(self, stage: Stage) -> set[str]:
        """What counts for a stage, modules without a statement left out."""
        modules, _ = self.code.whole([stage.module], stage.params)
        return {name for name in modules if self.code.module(name).statements}

    def line(self, stage: Stage) -> str:
        """The content of the stage's file."""
        modules, entries = self.code.whole([stage.module], stage.params)
        return f"{self.code.digest(modules, entries)}  {len(self.modules(stage))} modules\n"

    def stale(self) -> dict[Path, str]:
        """Files that are not as they should be, with what they should hold."""
        wanted = {self.root / FOLDER / f"{s.name}.sha": self.line(s) for s in self.all}
        return {
            path: line
            for path, line in wanted.items()
            if not path.is_file() or path.read_text() != line
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
def digest_of(*modules: str, names: tuple[str, ...] = (), parts: tuple[str, ...] = ()) -> str:
    """The digest of `modules` and of all that they import, of the methods or recommenders `names`
    in their tables, and of single definitions, `parts` (`module:name`): what a kept result of
    theirs depends on.
    """
    found, entries = running().whole(modules, {"names": names})
    return running().digest(found, entries, parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the digests of the stages' code."""
    parser = argparse.ArgumentParser(
        prog="python -m foretune.pipeline.digests", description=main.__doc__
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where one is stale"
    )
    parser.add_argument("--modules", metavar="STAGE", help="list the modules that count for it")
    parser.add_argument("--root", type=Path, default=Path(), help="of the repository")
    given = parser.parse_args(argv)
    try:
        stages = Stages(given.root)
        if given.modules:
            by_name = {stage.name: stage for stage in stages.all}
            if given.modules not in by_name:
                raise BadInput(f"no stage {given.modules!r}; there are {', '.join(by_name)}")
            print(*sorted(stages.modules(by_name[given.modules])), sep="\n")
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

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
statement stands and its place there, definitions that nothing of the above uses, other methods, and
what is said about any.

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
    """A method in a table of methods: where it is (module, class), and the call that describes it,
    without what is said about it.
    """

    place: tuple[str, str]
    call: ast.Call


@dataclass(eq=False)
class Module:
    """A parsed file.

    Attributes:
        statements: those of the top level that count.
        defined: the statement that defines a name of the top level.
        names: what imported names stand for: (module, attribute), the latter empty for a module.
        tables: tables of methods, by their name.
    """

    path: Path
    statements: list[ast.stmt] = field(default_factory=list)
    defined: dict[str, ast.stmt] = field(default_factory=dict)
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    tables: dict[str, dict[str, Entry]] = field(default_factory=dict)

    @property
    def templates(self) -> list[Path]:
        """Files that are filled in by the module's folder, captions and styles beside it."""
        folder = self.path.parent
        beside = (*folder.glob("*.toml"), *folder.glob("*.css"))
        return sorted([*(folder / "templates").glob("*.html"), *beside])


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
        self._lines: dict[ast.AST, str] = {}

    def module(self, name: str) -> Module:
        """A module, parsed once. Raises `BadInput` for one that is not there."""
        if name not in self._modules:
            if name not in self.paths:
                raise BadInput(f"there is no module {name} in {', '.join(sorted(self.packages))}")
            self._modules[name] = _parsed(self.paths[name])
        return self._modules[name]

    def imports(self, module: str, other: str) -> bool:
        """Whether `module` imports `other`, wherever in it."""
        names = self.module(module).names.values()
        return any(other in (target, f"{target}.{attribute}") for target, attribute in names)

    def reach(self, roots: Collection[str], params: Mapping[str, Any] | None = None) -> "Reach":
        """All that `roots` use, modules or single definitions (`module:name`), with the methods
        that `params` name. Raises `BadInput` for a root that is not there.
        """
        found = Reach(self)
        for root in roots:
            module, _, name = root.partition(":")
            if not name:
                found.whole(module)
            elif name in self.module(module).defined:
                found.resolve(module, name)
            else:
                raise BadInput(f"{module} defines no {name!r}, whose digest is asked for")
        found.follow()
        while found.add_methods(params or {}):
            found.follow()
        return found

    def uses(self, node: ast.AST, module: str) -> Iterator[tuple[str, str, str]]:
        """What the names in a part of `module` stand for: (as written, module, attribute).

        Annotations of a function are passed over: values come from where they are made.
        """
        mine = self.module(module)
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in mine.names:
                target = ".".join(filter(None, mine.names[name]))
                if target in self.paths:
                    yield f"{name}.{attribute}", target, attribute
                else:
                    yield name, *mine.names[name]
                return
            case ast.Name(id=name) if name in mine.names:
                yield name, *mine.names[name]
            case ast.Name(id=name) if name in mine.defined:
                yield name, module, name
            case ast.Constant(value=str(text)) if PLACE.fullmatch(text):
                place, _, attribute = text.partition(":")
                yield text, place, attribute
            case ast.arg():
                return
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                for part in (node.args, *node.body, *node.decorator_list):
                    yield from self.uses(part, module)
                return
        for child in ast.iter_child_nodes(node):
            yield from self.uses(child, module)

    def line(self, node: ast.AST, module: str) -> str:
        """A statement with what its names stand for, hashed."""
        if node not in self._lines:
            stands_for = {name: self._meaning(*what) for name, *what in self.uses(node, module)}
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
        if attribute in mine.tables or attribute not in mine.defined:
            return attribute
        return _dump_hash(mine.defined[attribute])


class Reach:
    """Statements that are used, growing from some of them.

    Attributes:
        statements: those found, with their module.
        modules: those that are imported on the way.
        methods: entries of tables of methods, with the table's module.
    """

    def __init__(self, code: Code):
        self.code = code
        self.statements: dict[ast.stmt, str] = {}
        self.modules: set[str] = set()
        self.methods: dict[ast.Call, str] = {}
        self._waiting: list[tuple[ast.AST, str]] = []

    def digest(self) -> str:
        """Of all that was found."""
        lines = {self.code.line(node, module) for node, module in self.statements.items()}
        lines |= {self.code.line(call, module) for call, module in self.methods.items()}
        for name in self.modules:
            lines |= {_hash(path.read_bytes()) for path in self.code.module(name).templates}
        return _hash("\n".join(sorted(lines)).encode())

    def whole(self, module: str) -> None:
        """Add all statements of a module."""
        self.imported(module)
        for statement in self.code.module(module).statements:
            self.add(statement, module)

    def imported(self, module: str) -> None:
        """Add what a module does as it is imported, but for its definitions."""
        if module not in self.modules:
            self.modules.add(module)
            for statement in self.code.module(module).statements:
                if not any(_bound(statement)) and not _is_main(statement):
                    self.add(statement, module)

    def add(self, statement: ast.stmt, module: str) -> None:
        """Add a statement, to be followed."""
        if statement not in self.statements:
            self.statements[statement] = module
            self._waiting.append((statement, module))

    def follow(self) -> None:
        """Add all that the statements added since use."""
        while self._waiting:
            node, module = self._waiting.pop()
            for _, *what in self.code.uses(node, module):
                self.resolve(*what)

    def resolve(self, module: str, attribute: str) -> None:
        """Add what `attribute` of `module` is; a module whole, if it is one."""
        whole = f"{module}.{attribute}" if attribute else module
        if whole in self.code.paths:
            if whole not in self.code.packages:
                self.whole(whole)
        elif module in self.code.paths:
            mine = self.code.module(module)
            self.imported(module)
            if attribute in mine.names:
                self.resolve(*mine.names[attribute])
            elif attribute in mine.defined and attribute not in mine.tables:
                self.add(mine.defined[attribute], module)

    def add_methods(self, params: Mapping[str, Any]) -> bool:
        """Add the entries of tables in the modules found that `params` name (a text, or a list of
        texts that the table knows entirely), or that stand as text in a statement whose module
        imports the table's; whether there were any.
        """
        found = dict(self.methods)
        for module in sorted(self.modules):
            for table in self.code.module(module).tables.values():
                named: set[str] = set()
                for value in params.values():
                    texts = [value] if isinstance(value, str) else value
                    if isinstance(texts, (list, tuple)) and set(map(str, texts)) <= set(table):
                        named |= set(map(str, texts))
                for statement, other in self.statements.items():
                    if other != module and self.code.imports(other, module):
                        named |= set(table) & _texts(statement)
                for name in sorted(named):
                    found[table[name].call] = module
                    self.resolve(*table[name].place)
                    self._waiting.append((table[name].call, module))
        more, self.methods = len(found) > len(self.methods), found
        return more


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


def _is_main(statement: ast.stmt) -> bool:
    """Whether a statement runs only where its module is the command."""
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _texts(node: ast.AST) -> set[str]:
    """The strings in a statement."""
    return {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def _table(value: ast.Dict, constants: Mapping[str, str]) -> dict[str, Entry]:
    """The entries of a table of methods; empty for any other dictionary."""
    out = {}
    for key, call in zip(value.keys, value.values, strict=True):
        match key, call:
            case ast.Constant(value=str(name)), ast.Call(args=[place, *_]):
                pass
            case _:
                return {}
        text: Any = constants.get(place.id) if isinstance(place, ast.Name) else None
        text = place.value if isinstance(place, ast.Constant) else text
        if not isinstance(text, str) or not PLACE.fullmatch(text):
            return {}
        module, _, kind = text.partition(":")
        bare = ast.Call(call.func, [ast.Constant(kind), *call.args[2:]], call.keywords)
        out[name] = Entry((module, kind), bare)
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
        held = repr(node.value) if isinstance(node, ast.Constant) else ",".join(parts)
        return f"{type(node).__name__}({held})"
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
                print(module, *sorted({name for s in mine for name in _bound(s)}))
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

"""Python files as what counts of them: statements without comments, docstrings, annotations for
type checkers and import statements, and what their names stand for.

A *table of methods* is a dictionary of calls whose first argument is `"module:Class"`
(`foretune.searchers.registry`); it is no statement, its entries are.
"""

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foretune.errors import BadInput

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


def parsed(path: Path) -> Module:
    """A file. Raises `BadInput` for an import by dots, whose meaning depends on the file's place."""
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
        for name in defines(statement):
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
        and not {*out.tables, "__all__"} & set(defines(statement))
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


def defines(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement of the top level defines."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            for target in targets:
                yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def is_main(statement: ast.stmt) -> bool:
    """Whether a statement runs only where its module is the command."""
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def strings(node: ast.AST) -> set[str]:
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


def without(statement: ast.stmt, parts: Collection[ast.stmt]) -> ast.stmt:
    """A class without some of its parts, a statement of its own; the same where there are none."""
    if not parts or not isinstance(statement, ast.ClassDef):
        return statement
    bare = copy(statement)
    bare.body = [part for part in statement.body if part not in parts]
    return bare


def mentions(node: ast.AST, *, names: bool = False) -> set[str]:
    """Names of attributes in a statement, and texts that may be some (for `getattr`); in a class's
    own body, and if asked for, plain names too.
    """
    out: set[str] = set()
    names = names or isinstance(node, ast.ClassDef)
    for part in ast.walk(node):
        match part:
            case ast.Attribute(attr=name):
                out.add(name)
            case ast.Constant(value=str(text)):
                out.update(piece for piece in text.split(".") if piece.isidentifier())
            case ast.MatchClass(kwd_attrs=attributes):
                out.update(attributes)
            case ast.Name(id=name) if names:
                out.add(name)
    return out

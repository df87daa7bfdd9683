"""What some code uses, statement by statement, and one digest of it.

A *definition* is a function, class or constant of a module's top level; a *member* is a method of a
class all of whose bases are this project's. A member counts where its name is mentioned anywhere in
what counts (as an attribute, or as a text, for `getattr`): which object it is called on cannot be
known, so that a name too many may count and none too few. Methods of a class that a library's base
calls (`torch.nn.Module`, `ast.NodeVisitor`) count with the class, and so do `__methods__`.
"""

import ast
import hashlib
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.pipeline.syntax import (
    PLACE,
    Module,
    defines,
    dump,
    is_main,
    mentions,
    parsed,
    strings,
    without,
)

# bases that call no method by its name
PLAIN_BASES = {"abc.ABC", "typing.Generic", "typing.Protocol"}
# what wraps a method, and does nothing else with it
WRAPPERS = {
    "abstractmethod", "cache", "cached_property", "classmethod", "contextmanager", "no_grad",
    "property", "setter", "staticmethod",
}  # fmt: skip


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
        self._split: dict[ast.stmt, tuple[ast.stmt, list[ast.stmt]]] = {}

    def module(self, name: str) -> Module:
        """A module, parsed once. Raises `BadInput` for one that is not there."""
        if name not in self._modules:
            if name not in self.paths:
                raise BadInput(f"there is no module {name} in {', '.join(sorted(self.packages))}")
            self._modules[name] = parsed(self.paths[name])
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

    def split(self, statement: ast.stmt, module: str) -> tuple[ast.stmt, list[ast.stmt]]:
        """A class without its members, and these; any other statement as it is."""
        if statement not in self._split:
            members: list[ast.stmt] = []
            if isinstance(statement, ast.ClassDef) and self._is_ours(statement, module):
                members = [part for part in statement.body if _is_member(part)]
            self._split[statement] = (without(statement, members), members)
        return self._split[statement]

    def _is_ours(self, kind: ast.ClassDef, module: str) -> bool:
        """Whether a class and all its bases are this project's."""
        for base in kind.bases:
            named = list(self.uses(base.value if isinstance(base, ast.Subscript) else base, module))
            if len(named) != 1:
                return False
            _, where, name = named[0]
            while where in self.paths and name in self.module(where).names:
                where, name = self.module(where).names[name]
            if where in self.paths:
                found = self.module(where).defined.get(name)
                if not isinstance(found, ast.ClassDef) or not self._is_ours(found, where):
                    return False
            elif f"{where}.{name}" not in PLAIN_BASES:
                return False
        return not kind.keywords

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
        return _dump_hash(self.split(mine.defined[attribute], module)[0])


class Reach:
    """Statements that are used, growing from some of them.

    Attributes:
        statements: those found, with their module; members beside their class.
        classes: the class of a member, by name.
        modules: those that are imported on the way.
        methods: entries of tables of methods, with the table's module.
    """

    def __init__(self, code: Code):
        self.code = code
        self.statements: dict[ast.stmt, str] = {}
        self.modules: set[str] = set()
        self.methods: dict[ast.Call, str] = {}
        self.classes: dict[ast.stmt, str] = {}
        self._seen: set[ast.stmt] = set()
        self._waiting: list[tuple[ast.AST, str]] = []
        self._mentioned: set[str] = set()
        self._unused: dict[str, list[tuple[ast.stmt, str]]] = {}  # members, by their names

    def digest(self) -> str:
        """Of all that was found."""
        lines = {
            f"{self.classes.get(node, '')} {self.code.line(node, module)}"
            for node, module in self.statements.items()
        }
        lines |= {self.code.line(call, module) for call, module in self.methods.items()}
        for name in self.modules:
            lines |= {_hash(path.read_bytes()) for path in self.code.module(name).templates}
        return _hash("\n".join(sorted(lines)).encode())

    def names(self, statement: ast.stmt) -> list[str]:
        """The names that one of the statements defines, a member's with that of its class."""
        inside = f"{self.classes[statement]}." if statement in self.classes else ""
        return [f"{inside}{name}" for name in defines(statement)]

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
                if not any(defines(statement)) and not is_main(statement):
                    self.add(statement, module)

    def add(self, statement: ast.stmt, module: str) -> None:
        """Add a statement, to be followed; of a class the members that are mentioned."""
        if statement in self._seen:
            return
        self._seen.add(statement)
        bare, members = self.code.split(statement, module)
        self.statements[bare] = module
        self._waiting.append((bare, module))
        for member in members:
            (name,) = defines(member)
            self.classes[member] = next(defines(statement))
            self._unused.setdefault(name, []).append((member, module))

    def follow(self) -> None:
        """Add all that the statements added since use."""
        while self._waiting:
            node, module = self._waiting.pop()
            for _, *what in self.code.uses(node, module):
                self.resolve(*what)
            self._mentioned |= mentions(node)
            if not self._waiting:
                for name in self._mentioned & self._unused.keys():
                    members = self._unused.pop(name)
                    self.statements |= dict(members)
                    self._waiting += members

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
                        named |= set(table) & strings(statement)
                for name in sorted(named):
                    found[table[name].call] = module
                    self.resolve(*table[name].place)
                    self._waiting.append((table[name].call, module))
        more, self.methods = len(found) > len(self.methods), found
        return more


def _is_member(part: ast.stmt) -> bool:
    """Whether a part of a class is a method that counts by its name alone."""
    if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    wrapped = all(mentions(wrapper, names=True) & WRAPPERS for wrapper in part.decorator_list)
    return wrapped and not (part.name.startswith("__") and part.name.endswith("__"))


@cache
def _dump_hash(node: ast.AST) -> str:
    return _hash(dump(node).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

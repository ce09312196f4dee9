"""The normal form of Python code: its syntax tree without what cannot change a number."""

import ast
import builtins
from collections.abc import Iterator, Sequence
from typing import TypeVar

from preddiff.storage.python_names import Function, Origins, attribute, dotted

Node = TypeVar("Node", bound=ast.AST)

# Functions that only set up the command line.
_COMMAND_LINE = "add_arguments"
# Functions that only show something, if nothing is done with what they return; all functions of
# the package's module `progress` do.
_SHOWING = {
    "print", "warnings.warn", "warnings.warn_explicit", "sys.stderr.write", "sys.stderr.flush",
    "sys.stdout.write", "sys.stdout.flush",
}  # fmt: skip
# Methods that only show something, of loggers and of progress bars.
_LOGGING = {"critical", "debug", "error", "exception", "info", "log", "warning"}
_BAR = {"set_description", "set_description_str", "set_postfix", "set_postfix_str"}
# Keywords that hold text for people, in calls of any function and of some.
_TEXTS = {"custom_error_message", "description", "epilog", "help", "metavar", "usage"}
_PROGRESS_TEXTS = {"bar_format", "desc", "leave", "postfix", "unit", "unit_scale"}
_TEXTS_OF = {
    "ConfigDict": {"title"},
    "Field": {"examples", "title"},
    **dict.fromkeys(("progress", "tqdm", "trange", "TqdmCallback"), _PROGRESS_TEXTS),
}
# Fields of syntax trees that repeat what others say, or hold comments.
_NO_MEANING = {"ctx", "kind", "type_comment"}


class Stripper(ast.NodeTransformer):
    """Removes from a module's statements what cannot change a number.

    That is: docstrings; what is printed, warned of or logged; the arguments of exceptions; text
    that is built for these and used nowhere else; texts of settings, options and progress bars;
    the command line; and annotations, but for those in the bodies of classes, which pydantic and
    data classes read.

    Exceptions are taken to carry messages: a number that reaches its user in one is not seen.

    Parameters
    ----------
    tree : ast.Module
        The module that the statements are of.
    origins : mapping of str to sequence of str
        What the names that it imports stand for.
    """

    def __init__(self, tree: ast.Module, origins: Origins) -> None:
        self._origins = origins
        self._loggers = _loggers(tree)
        # Functions that only print, of the module, and methods that do, of the classes around.
        self._printers: set[str] = set()
        self._printers = set(self._printers_among(tree.body))
        self._in_class = False

    def strip(self, statements: Sequence[ast.stmt]) -> list[ast.AST]:
        """Strip statements, in place; those of which nothing is left are not returned."""
        return [left for one in statements if (left := self.visit(one)) is not None]

    def visit(self, node: ast.AST) -> ast.AST | None:
        """Strip a tree, as `ast.NodeTransformer` asks for."""
        match node:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                return None
            case ast.Expr(value=value) if self._only_shows(value):
                return None
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == _COMMAND_LINE:
                return None
            case ast.AnnAssign(value=None) if not self._in_class:
                return None
            case ast.AnnAssign(value=ast.expr() as value) if not self._in_class:
                return self.visit(ast.Assign([node.target], value))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return self._function(node)
            case ast.ClassDef():
                return self._class(node)
            case ast.Raise():
                node.cause = None
                if isinstance(node.exc, ast.Call):
                    node.exc = node.exc.func
            case ast.Assert():
                node.msg = None
            case ast.Call(func=ast.expr() as function) if name := dotted(function):
                self._remove_texts(node, name)
            case ast.arg():
                node.annotation = None
        return self.generic_visit(node)

    def _function(self, node: Function) -> Function:
        around = self._in_class
        self._in_class = False
        node.returns = None
        self.generic_visit(node)
        self._in_class = around
        return _without_unused_texts(node)

    def _class(self, node: ast.ClassDef) -> ast.ClassDef:
        around = self._in_class, self._printers
        self._in_class = True
        self._printers = self._printers | {f"self.{n}" for n in self._printers_among(node.body)}
        self.generic_visit(node)
        self._in_class, self._printers = around
        return node

    def _remove_texts(self, node: ast.Call, name: str) -> None:
        full = self._imported_name(name) or name
        texts = _TEXTS | _TEXTS_OF.get(full.rpartition(".")[2], set())
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in texts]
        if self._is_in("errors", name) or _is_built_in_exception(name):
            node.args, node.keywords = [], []

    def _imported_name(self, name: str) -> str | None:
        """Full name of what is imported; None if it is not."""
        first, _, rest = name.partition(".")
        origin = next(iter(self._origins.get(first, ())), None)
        return None if origin is None else attribute(origin, rest).replace(":", ".")

    def _is_in(self, module: str, name: str) -> bool:
        """Whether a name is imported from a module at the top of a package, such as this one."""
        return (self._imported_name(name) or "").split(".")[1:2] == [module]

    def _only_shows(self, node: ast.expr) -> bool:
        name = dotted(node.func) if isinstance(node, ast.Call) else None
        if name is None:
            return False
        base, _, method = name.rpartition(".")
        if method in _BAR or (method in _LOGGING and base in self._loggers):
            return True
        shows = name in self._printers or (self._imported_name(name) or name) in _SHOWING
        return shows or self._is_in("progress", name)

    def _printers_among(self, body: Sequence[ast.stmt]) -> Iterator[str]:
        for one in body:
            if isinstance(one, Function) and self._all_show(_without_constants(one.body)):
                yield one.name

    def _all_show(self, body: Sequence[ast.stmt]) -> bool:
        """Whether there are statements, all of which show something or decide whether to."""
        return bool(body) and all(
            self._all_show([*one.body, *one.orelse])
            if isinstance(one, ast.If | ast.For)
            else isinstance(one, ast.Expr) and self._only_shows(one.value)
            for one in body
        )


def spelled(node: object) -> str:
    """Spell a syntax tree out.

    Unlike with `ast.dump`, fields that are empty are left out in all versions of Python.
    """
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={spelled(value)}"
            for name, value in ast.iter_fields(node)
            if name not in _NO_MEANING and value is not None and value != []
        ]
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(map(spelled, node))}]"
    return repr(node)


def _is_built_in_exception(name: str) -> bool:
    known = getattr(builtins, name, None)
    return isinstance(known, type) and issubclass(known, BaseException)


def _loggers(tree: ast.Module) -> set[str]:
    """Names that are bound to loggers, and that of the module itself."""
    return {"logging"} | {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and (dotted(node.value.func) or "").endswith("getLogger")
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _without_constants(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Statements but for docstrings, `...` and `pass`."""
    return [
        one
        for one in body
        if not isinstance(one, ast.Pass)
        and not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
    ]


def _without_unused_texts(function: Function) -> Function:
    """Remove assignments of text that only messages used, which are gone."""
    while True:
        kept = set[str]()
        for part in ast.walk(function):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
                kept.add(part.id)
            elif isinstance(part, ast.Global | ast.Nonlocal):
                kept.update(part.names)
        remover = _UnusedTexts(kept)
        remover.generic_visit(function)
        if not remover.removed:
            return function


class _UnusedTexts(ast.NodeTransformer):
    """Removes assignments of text to local variables, and names of errors, that nothing uses.

    Parameters
    ----------
    kept : set of str
        Names that something uses.
    """

    def __init__(self, kept: set[str]) -> None:
        self.kept = kept
        self.removed = False

    def visit(self, node: ast.AST) -> ast.AST | None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Lambda():
                # Other scopes: functions were stripped before, and classes have attributes.
                return node
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                return self._unless_unused(node, name, value)
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                return self._unless_unused(node, name, value)
            case ast.ExceptHandler(name=name) if name not in self.kept:
                node.name = None
        return self.generic_visit(node)

    def _unless_unused(self, node: Node, name: str, value: ast.expr) -> Node | None:
        if name in self.kept or not _is_text(value):
            return node
        self.removed = True
        return None


def _is_text(node: ast.expr) -> bool:
    """Whether an expression is text for sure."""
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
        case ast.IfExp(body=body, orelse=orelse):
            return _is_text(body) and _is_text(orelse)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _is_text(left) or _is_text(right)
        case ast.BinOp(left=left, op=ast.Mod()):
            return _is_text(left)
        case ast.Call(func=ast.Attribute(value=value, attr="join" | "format")):
            return _is_text(value)
        case _:
            return False

"""Names in Python code: which ones a statement binds, and which global ones it uses."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
# What each name stands for, as `module:name` or, for a module, `module:`; several things where it
# is bound on some condition.
Origins = Mapping[str, Sequence[str]]


def imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str]]:
    """Names that an import binds, each with what it stands for.

    Parameters
    ----------
    node : ast.Import or ast.ImportFrom
    package : str
        Dotted name of the package that relative imports start from.

    Yields
    ------
    name, origin : str
        As `("np", "numpy:")` or `("pi", "math:pi")`.

    Raises
    ------
    ValueError
        If all names of a module are imported, so that it is not known which.
    """
    if isinstance(node, ast.Import):
        for alias in node.names:
            first = alias.name.partition(".")[0]
            yield (alias.asname, f"{alias.name}:") if alias.asname else (first, f"{first}:")
        return
    above = package.split(".")[: 1 - node.level or None] if node.level else []
    module = ".".join([*above, node.module] if node.module else above)
    for alias in node.names:
        if alias.name == "*":
            raise ValueError(f"{package}: import names instead of * from {module}")
        yield alias.asname or alias.name, f"{module}:{alias.name}"


def attribute(origin: str, rest: str) -> str:
    """Attributes, as a dotted name, of what `module:name` or `module:` stands for."""
    return f"{origin}{'' if origin.endswith(':') or not rest else '.'}{rest}"


def dotted(node: ast.expr) -> str | None:
    """Chain of attributes as a dotted name, `a.b.c`; None if it does not start at a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return None if base is None else f"{base}.{node.attr}"
    return None


def bindings(nodes: Iterable[ast.AST], package: str) -> dict[str, tuple[str, ...]]:
    """Names that statements bind in their own scope, with what they stand for if imported.

    Parameters
    ----------
    nodes : iterable of ast.AST
        The body of a function or module, or a part of it.
    package : str
        Dotted name of the package that relative imports start from.
    """
    visitor = _Bindings(package)
    for node in nodes:
        visitor.visit(node)
    return {name: found for name, found in visitor.names.items() if name not in visitor.outer}


class _Bindings(ast.NodeVisitor):
    """Collects the names that are bound, but not those of scopes within."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.names: dict[str, tuple[str, ...]] = {}
        # Names that `global` or `nonlocal` says to belong to a scope outside.
        self.outer: set[str] = set()

    def _bind(self, name: str | None, *origins: str) -> None:
        if name is not None:
            self.names[name] = (*self.names.get(name, ()), *origins)

    def visit(self, node: ast.AST) -> None:
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                self._bind(name)
            case ast.Import() | ast.ImportFrom():
                for name, origin in imported(node, self.package):
                    self._bind(name, origin)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._bind(node.name)
            case ast.Lambda():
                pass
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                # Of the names in a comprehension, only those of `:=` are bound outside.
                for part in ast.walk(node):
                    if isinstance(part, ast.NamedExpr):
                        self._bind(part.target.id)
            case ast.Global() | ast.Nonlocal():
                self.outer.update(node.names)
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar():
                self._bind(node.name)
                self.generic_visit(node)
            case ast.MatchMapping():
                self._bind(node.rest)
                self.generic_visit(node)
            case _:
                self.generic_visit(node)


def used_names(node: ast.AST, origins: Origins, package: str) -> set[tuple[str, str]]:
    """Global names that a statement of a module uses, each with what it stands for.

    Names that parameters, local variables or comprehensions shadow are not global. Names that
    `origins` does not know are built in. Annotations of functions are not looked at.

    Parameters
    ----------
    node : ast.AST
        A statement.
    origins : mapping of str to sequence of str
        Of the module's own names.
    package : str
        Dotted name of the package that relative imports start from.

    Returns
    -------
    set of (str, str)
        As `("np", "numpy:random.default_rng")`: chains of attributes are kept.
    """
    visitor = _UsedNames(origins, package)
    visitor.visit(node)
    return visitor.found


class _UsedNames(ast.NodeVisitor):
    """Collects the names that are loaded from the module's scope."""

    def __init__(self, origins: Origins, package: str) -> None:
        self.package = package
        self.found: set[tuple[str, str]] = set()
        self._origins = origins
        # Scopes of functions and comprehensions; names in the body of a class shadow none.
        self._scopes: list[Origins] = []

    def _use(self, chain: str) -> None:
        name, _, rest = chain.partition(".")
        scopes = (scope for scope in reversed(self._scopes) if name in scope)
        for origin in next(scopes, self._origins).get(name, ()):
            self.found.add((name, attribute(origin, rest)))

    def visit(self, node: ast.AST) -> None:
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                self._use(name)
            case ast.Attribute() if chain := dotted(node):
                self._use(chain)
            case ast.Global(names=names):
                for name in names:
                    self._use(name)
            case ast.Import() | ast.ImportFrom():
                # Those of functions are in their scope by name, and count where they are used.
                for name, origin in imported(node, self.package):
                    if not self._scopes or name not in self._scopes[-1]:
                        self.found.add((name, origin))
            case ast.AnnAssign():
                self._visit_all(_forward_references(node.annotation))
                self.generic_visit(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._visit_all(node.decorator_list)
                self._function(node.args, node.body)
            case ast.Lambda():
                self._function(node.args, [node.body])
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self._comprehension(node)
            case _:
                self.generic_visit(node)

    def _visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def _within(self, scope: Origins, nodes: Iterable[ast.AST | None]) -> None:
        self._scopes.append(scope)
        self._visit_all(nodes)
        self._scopes.pop()

    def _function(self, arguments: ast.arguments, body: Sequence[ast.AST]) -> None:
        # Defaults are evaluated outside.
        self._visit_all([*arguments.defaults, *arguments.kw_defaults])
        names = [part.arg for part in ast.walk(arguments) if isinstance(part, ast.arg)]
        parameters: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
        self._within(parameters | bindings(body, self.package), body)

    def _comprehension(self, node: Comprehension) -> None:
        first, *others = node.generators
        # The first iterable is evaluated outside.
        self.visit(first.iter)
        scope = bindings([part.target for part in node.generators], self.package)
        values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        conditions = [condition for part in node.generators for condition in part.ifs]
        self._within(scope, [*(part.iter for part in others), *conditions, *values])


def _forward_references(annotation: ast.expr) -> Iterator[ast.AST]:
    """Trees of the strings in an annotation that may stand for types."""
    for part in ast.walk(annotation):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            try:
                yield ast.parse(part.value, mode="eval")
            except SyntaxError:
                continue

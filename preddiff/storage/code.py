"""Code that results depend on: the definitions of a package that are reached from some of them."""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from preddiff.storage.normal_form import Stripper, spelled
from preddiff.storage.python_names import attribute, bindings, used_names

# Modules of the package that never make a number: a change of them changes no digest.
NO_NUMBERS = (
    "errors",  # exceptions, which carry messages
    "progress",  # progress bars
    "cli",  # the command line
    "registry",  # finds kinds by their names; the kinds themselves count
    "devices",  # chooses where networks run; stores record it
    "settings.options",  # settings as command-line options
    "settings.document",  # documentation of the settings
    "storage.aside",  # sets outdated stores aside
    "storage.stores",  # layout of stores, which hold numbers as they are given
    "storage.expectations",
    "storage.filled",
    "storage.levels",
    "storage.maps",
    "storage.relevance",
    "storage.inputs",  # where stores lie
    "storage.files",  # atomic writing
    "storage.locks",  # which process may write
    "storage.markers",  # which shards are complete
    "storage.shards",
    "storage.provenance",  # digests, which identify numbers, and how they are made
    "storage.code",
    "storage.python_names",
    "storage.normal_form",
)

# What a module does when it is imported, as if this were defined in it.
_IMPORT = ""


@dataclass(frozen=True)
class Definition:
    """What a module binds to a name.

    Attributes
    ----------
    digest : str
        Of the normal form of its statements, and of what the names in it stand for.
    uses : tuple of str
        What it uses, of any package, as `module:name`.
    """

    digest: str
    uses: tuple[str, ...]


class Module:
    """The definitions of a module, as its text has them.

    Parameters
    ----------
    name : str
        Dotted name.
    text : str
        Source code.
    is_package : bool
        Whether it is the `__init__` of a package.
    """

    def __init__(self, name: str, text: str, is_package: bool) -> None:
        self.name = name
        self._package = name if is_package else name.rpartition(".")[0]
        self._statements: dict[str, list[ast.stmt]] = {_IMPORT: []}
        self._origins: dict[str, tuple[str, ...]] = {}
        self._definitions: dict[str, Definition] = {}
        tree = ast.parse(text)
        for statement in tree.body:
            self._add(statement)
        imports = [part for part in ast.walk(tree) if isinstance(part, ast.Import | ast.ImportFrom)]
        self._stripper = Stripper(tree, bindings(imports, self._package))
        for name in self._statements:
            self._origins[name] = (*self._origins.get(name, ()), f"{self.name}:{name}")

    def _add(self, statement: ast.stmt) -> None:
        names = bindings([statement], self._package)
        for name, origins in names.items():
            self._origins[name] = (*self._origins.get(name, ()), *origins)
        if _only_imports(statement) or _is_script(statement):
            return
        if not _is_definition(statement):
            # It may do anything to any name, so that it counts with each definition.
            self._statements[_IMPORT].append(statement)
        for name in names:
            found = self._statements.setdefault(name, [])
            if _is_definition(statement):
                found.append(statement)

    def names(self) -> list[str]:
        """Names that are defined."""
        return [name for name in self._statements if name != _IMPORT]

    def origins(self, name: str) -> tuple[str, ...]:
        """What a name stands for, as `module:name`: itself, what is imported; none if unknown."""
        return self._origins.get(name, ()) if name != _IMPORT else ()

    def definition(self, name: str) -> Definition:
        """What is bound to a name, or done when the module is imported."""
        if name not in self._definitions:
            kept = self._stripper.strip(self._statements[name])
            used: set[tuple[str, str]] = set()
            for one in kept:
                used |= used_names(one, self._origins, self._package)
            parts = [*map(spelled, kept), *(f"{a} is {b}" for a, b in sorted(used))]
            digest = hashlib.sha256("\n".join(parts).encode()).hexdigest() if kept else ""
            self._definitions[name] = Definition(digest, tuple(sorted({b for _, b in used})))
        return self._definitions[name]


@lru_cache(maxsize=512)
def _parsed(name: str, text: str, is_package: bool) -> Module:
    return Module(name, text, is_package)


def _only_imports(statement: ast.stmt) -> bool:
    """Whether a statement imports, perhaps on some condition, and does nothing else."""
    parts = [part for part in ast.walk(statement) if isinstance(part, ast.stmt)]
    leaves = [part for part in parts if not isinstance(part, ast.If | ast.Try)]
    return bool(leaves) and all(
        isinstance(part, ast.Import | ast.ImportFrom | ast.Pass) for part in leaves
    )


def _is_script(statement: ast.stmt) -> bool:
    """Whether a statement is done only where the module is run as a script."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test).startswith("__name__ ==")


def _is_definition(statement: ast.stmt) -> bool:
    """Whether a statement does nothing but bind names."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return True
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    else:
        return False
    return not any(
        isinstance(part, ast.Attribute | ast.Subscript)
        for target in targets
        for part in ast.walk(target)
    )


class Package:
    """The code of a package, as its files have it now.

    Parameters
    ----------
    folder : Path
        Folder of the package, whose name is the package's.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self._files = {_module_name(folder, path): path for path in folder.rglob("*.py")}
        self._modules: dict[str, Module] = {}
        self._targets: dict[str, tuple[tuple[str, str], ...]] = {}

    def definitions(self, roots: Iterable[str]) -> dict[str, str]:
        """Digests of the definitions that are reached from some, by `module:name`.

        Names are followed statically: those in a definition's normal form to the definitions that
        they stand for, through imports and re-exports, and on from there. A class counts whole.
        What is looked up when the program runs (registries, `getattr`) is not found, and has to be
        among the roots.

        Parameters
        ----------
        roots : iterable of str
            Definitions, as `package.module:name`, or modules, all of whose definitions count; of a
            package also those of all its modules.

        Raises
        ------
        ValueError
            If there is no such module or definition, or a name is imported that does not exist, or
            a root is of a module that makes no numbers.
        """
        queue: list[tuple[str, str]] = []
        for root in roots:
            queue += self._resolve(root if ":" in root else f"{root}:", "digest_code")
        for module, _ in queue:
            if self._makes_no_numbers(module):
                raise ValueError(f"{module} makes no numbers: see NO_NUMBERS in storage/code.py")
        found: dict[tuple[str, str], str] = {}
        while queue:
            module, name = queue.pop()
            if (module, name) in found or self._makes_no_numbers(module):
                continue
            definition = self._module(module).definition(name)
            found[module, name] = definition.digest
            for used in definition.uses:
                queue += self._resolve(used, f"{module}:{name}")
            queue += [(inner, _IMPORT) for inner in self._imported_with(module)]
        return {f"{module}:{name}": digest for (module, name), digest in found.items() if digest}

    def _makes_no_numbers(self, module: str) -> bool:
        return any(_lies_in(module, f"{self.name}.{part}") for part in NO_NUMBERS)

    def _imported_with(self, module: str) -> Iterator[str]:
        """The module itself and the packages that it lies in."""
        while module in self._files:
            yield module
            module = module.rpartition(".")[0]

    def _module(self, name: str) -> Module:
        if name not in self._modules:
            path = self._files[name]
            text = path.read_text(encoding="utf-8")
            self._modules[name] = _parsed(name, text, path.stem == "__init__")
        return self._modules[name]

    def _resolve(self, used: str, by: str) -> tuple[tuple[str, str], ...]:
        """Definitions that `module:name` stands for; none for those of other packages."""
        if used not in self._targets:
            self._targets[used] = tuple(self._search(used, by))
        return self._targets[used]

    def _search(self, used: str, by: str) -> Iterator[tuple[str, str]]:
        module, _, chain = used.partition(":")
        if not _lies_in(module, self.name):
            return
        if module not in self._files:
            raise ValueError(f"{by} uses {module}, which is no module")
        name, _, rest = chain.partition(".")
        if not name:
            # A module as a whole, and those in it.
            for inner in sorted(self._files):
                if _lies_in(inner, module):
                    yield from ((inner, one) for one in self._module(inner).names())
            return
        origins = self._module(module).origins(name)
        for origin in origins:
            if origin == f"{module}:{name}":
                yield module, name
            else:
                yield from self._resolve(attribute(origin, rest), by)
        if not origins and f"{module}.{name}" in self._files:
            yield from self._resolve(f"{module}.{name}:{rest}", by)
        elif not origins and not name.startswith("__"):
            raise ValueError(f"{by} uses {name} of {module}, which has no such name")


def _module_name(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _lies_in(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def imported_files(path: Path) -> Mapping[str, Path]:
    """A Python file and the modules that it imports from its own folder, and they in turn.

    Imports are found statically: `import x.y`, `from x import y`, `from .x import y`, wherever
    they stand. Names without a file in the folder are those of installed packages.

    Parameters
    ----------
    path : Path

    Returns
    -------
    mapping of str to Path
        Files by their path relative to the folder.

    Raises
    ------
    SyntaxError
        If a file is not Python.
    """
    folder = path.parent
    found: dict[str, Path] = {}
    queue = [path]
    while queue:
        file = queue.pop()
        name = file.relative_to(folder).as_posix()
        if name in found:
            continue
        found[name] = file
        for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for parts in _imported_modules(node, file.relative_to(folder).parent.parts):
                    queue += _files_of(folder, parts)
    return found


def _imported_modules(
    node: ast.Import | ast.ImportFrom, package: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Dotted names, in parts, of what may be modules."""
    if isinstance(node, ast.Import):
        yield from (tuple(alias.name.split(".")) for alias in node.names)
        return
    if node.level > len(package) + 1:
        # Outside of the folder.
        return
    above = package[: len(package) + 1 - node.level] if node.level else ()
    base = (*above, *(node.module.split(".") if node.module else ()))
    yield base
    yield from ((*base, alias.name) for alias in node.names)


def _files_of(folder: Path, module: tuple[str, ...]) -> Iterator[Path]:
    """Files that are run when a module is imported: its own, and those of its packages."""
    for end in range(1, len(module) + 1):
        base = folder.joinpath(*module[:end])
        # A package comes before a module of the same name, as in Python.
        files = (base / "__init__.py", base.with_name(f"{base.name}.py"))
        file = next((file for file in files if file.is_file()), None)
        if file is not None:
            yield file

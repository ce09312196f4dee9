"""Registries of kinds, such as the kinds of samplers; each kind registers itself in its module."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Generic, TypeVar, Union, get_args

from pydantic import Discriminator, Tag

Kind = TypeVar("Kind", bound=type)


class Registry(Generic[Kind]):
    """The kinds of samplers, methods, classifiers, datasets or figures.

    A kind is a class of settings that also describes its capabilities and builds the object. Kinds
    are found by importing the modules of a package, so that a new kind only needs a new file.

    Parameters
    ----------
    package : str
        Name of the package whose modules contain the kinds.
    key : str
        Key of the kind in a configuration: a field of type `Literal`.
    default : str, optional
        Kind of settings without this key.

    Examples
    --------
    >>> from preddiff.samplers.base import SAMPLERS
    >>> sorted(SAMPLERS.names())
    ['conditional', 'grey', 'marginal', 'module']
    """

    def __init__(self, package: str, key: str = "kind", default: str | None = None) -> None:
        self.package = package
        self.key = key
        self.default = default
        self._kinds: dict[str, Kind] = {}
        self._complete = False

    def register(self, kind: Kind) -> Kind:
        """Add a kind; used as a decorator of its class."""
        self._kinds[self.name_of(kind)] = kind
        return kind

    def name_of(self, kind: type) -> str:
        """Return the name of a kind, which is the value of its key."""
        fields: Any = kind.model_fields  # type: ignore[attr-defined]
        (name,) = get_args(fields[self.key].annotation)
        return str(name)

    def names(self) -> list[str]:
        """List the names of all kinds in alphabetical order."""
        if not self._complete:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__, f"{self.package}."):
                importlib.import_module(module.name)
            self._complete = True
        return sorted(self._kinds)

    def __iter__(self) -> Iterator[Kind]:
        return (self._kinds[name] for name in self.names())

    def __getitem__(self, name: str) -> Kind:
        self.names()
        return self._kinds[name]

    def only(self, wanted: Callable[[Any], bool], default: str | None = None) -> "Registry[Kind]":
        """Return a registry of the kinds that fulfil a condition, with another default."""
        found: Registry[Kind] = Registry(self.package, self.key, default)
        found._kinds = {self.name_of(kind): kind for kind in self if wanted(kind)}
        found._complete = True
        return found

    def union(self) -> Any:
        """Return the type of a pydantic field that accepts settings of any kind."""
        kinds = tuple(Annotated[kind, Tag(self.name_of(kind))] for kind in self)
        # The types are only known at run time.
        return Annotated[Union[kinds], Discriminator(self.tag)]  # noqa: UP007

    def tag(self, data: Any) -> str | None:
        """Return the name of the kind of settings, which are given as a mapping or an object."""
        if isinstance(data, dict):
            found = data.get(self.key, self.default)
        else:
            found = getattr(data, self.key, None)
        return None if found is None else str(found)

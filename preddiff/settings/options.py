"""Settings on the command line, as options or as one JSON argument."""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from preddiff.errors import InputError
from preddiff.registry import Registry
from preddiff.settings.base import Settings, validate

Model = TypeVar("Model", bound=Settings)

_SOURCE = "command line"
# Largest 64-bit integer: the limit of seeds and array sizes.
_LARGEST = 2**63 - 1


def add_settings(
    parser: argparse.ArgumentParser, model: "type[Settings] | Registry[Any]", *omit: str
) -> None:
    """Add `--settings`, which takes a JSON object, and an option for each key of a model.

    The rules of the workflow pass JSON, which preserves types; the options are for manual use.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    model : type of Settings, or Registry
        For a registry, the options of all kinds are added, and one that selects the kind. Options
        of nested settings are added at the same level.
    *omit : str
        Keys without an option, because the command sets them.
    """
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--settings",
        metavar="JSON",
        help="all settings as one JSON object, instead of the options below",
    )
    added: set[str] = set(omit)
    for key, field, about in _options(model):
        if key not in added:
            _add_option(group, key, field, about)
            added.add(key)


def read_settings(arguments: argparse.Namespace, model: type[Model], **given: Any) -> Model:
    """Return the settings that parsed arguments contain.

    Parameters
    ----------
    arguments : argparse.Namespace
    model : type of Settings
    **given
        Values of keys that have no option.

    Raises
    ------
    InputError
        If a value is invalid.
    """
    found = _json(arguments)
    return validate(
        model, _collected(arguments, model) | given if found is None else found, _SOURCE
    )


def read_kind(arguments: argparse.Namespace, kinds: Registry[Any], **given: Any) -> Any:
    """Return settings of one of the kinds of a registry; see `read_settings`."""
    found = _json(arguments)
    if found is None:
        kind = _kind(arguments, kinds)
        found = _collected(arguments, kind, all_kinds=kinds) | given
        found[kinds.key] = kinds.name_of(kind)
    else:
        kind = _kind(argparse.Namespace(**{kinds.key: kinds.tag(found)}), kinds)
    return validate(kind, found, _SOURCE)


def write_settings(settings: Settings | None = None, **parts: Any) -> str:
    """Convert settings to the JSON that `--settings` accepts.

    Parameters
    ----------
    settings : Settings, optional
    **parts
        Instead of `settings`: the values of nested settings, by key; None stands for the default.
    """
    if settings is not None:
        return json.dumps(settings.model_dump(mode="json"))
    return json.dumps(
        {
            key: part.model_dump(mode="json") if isinstance(part, Settings) else part
            for key, part in parts.items()
            if part is not None
        }
    )


def _json(arguments: argparse.Namespace) -> Any:
    if arguments.settings is None:
        return None
    try:
        return json.loads(arguments.settings)
    except json.JSONDecodeError as error:
        raise InputError(f"--settings: invalid JSON: {error}") from None


def _kind(arguments: argparse.Namespace, kinds: Registry[Any]) -> Any:
    name = getattr(arguments, kinds.key, None) or kinds.default
    if name not in kinds.names():
        raise InputError(f"--{kinds.key}: choose one of {', '.join(kinds.names())}")
    return kinds[name]


def _options(model: "type[Settings] | Registry[Any]") -> Iterator[tuple[str, FieldInfo, str]]:
    """Yield keys, fields and descriptions of a model; what kinds say of a key in different words.

    The field of a key of several kinds is that of the first.
    """
    if isinstance(model, Registry):
        fields: dict[str, tuple[FieldInfo, dict[str, list[str]]]] = {}
        for kind in model:
            for key, field, about in _options(kind):
                texts = fields.setdefault(key, (field, {}))[1]
                texts.setdefault(about, []).append(model.name_of(kind))
        fields.pop(model.key, None)
        selection = _field_of_kinds(model)
        yield model.key, selection, _described(selection)
        for key, (field, texts) in fields.items():
            yield key, field, _of_kinds(texts, len(model.names()))
        return
    for key, field in model.model_fields.items():
        nested = model.registries.get(key) or _settings(field)
        if nested is None:
            yield key, field, _described(field)
        else:
            yield from _options(nested)


def _of_kinds(texts: Mapping[str, Sequence[str]], count: int) -> str:
    """Join descriptions of a key, each with the kinds that it is of, unless it is of all."""
    return ". ".join(
        text if len(kinds) == count else f"{', '.join(kinds)}: {text}"
        for text, kinds in texts.items()
    )


def _described(field: FieldInfo) -> str:
    """Return the description of a field, with its default."""
    about = field.description or ""
    if "default: " in about:
        return about
    return f"{about} ({'required' if field.is_required() else f'default: {_shown(field.default)}'})"


def _field_of_kinds(kinds: Registry[Any]) -> FieldInfo:
    """Return the field that selects a kind, with a description of each kind."""
    about = {name: (kinds[name].__doc__ or "").partition("\n")[0] for name in kinds.names()}
    listed = " ".join(f"{name}: {text}" for name, text in about.items())
    return FieldInfo(
        annotation=str, default=kinds.default or PydanticUndefined, description=f"{listed}"
    )


def _settings(field: FieldInfo) -> type[Settings] | None:
    """Return the model of a field whose value is itself settings."""
    kinds = [one for one in _types(field) if isinstance(one, type) and issubclass(one, Settings)]
    return kinds[0] if len(kinds) == 1 else None


def _collected(
    arguments: argparse.Namespace, model: type[Settings], all_kinds: Registry[Any] | None = None
) -> dict[str, Any]:
    """Collect the values of options, nested like the fields of the model."""
    found: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        kinds, nested = model.registries.get(key), _settings(field)
        if kinds is not None:
            found[key] = _collected(arguments, _kind(arguments, kinds), kinds)
        elif nested is not None:
            found[key] = _collected(arguments, nested)
        elif (value := getattr(arguments, key, None)) is not None:
            found[key] = _single(value, field)
    if all_kinds is not None:
        # Options of other kinds are collected too, so that validation refuses them by name.
        for key, field, _ in _options(all_kinds):
            if key not in found and (value := getattr(arguments, key, None)) is not None:
                found[key] = _single(value, field)
    return found


def _add_option(group: Any, key: str, field: FieldInfo, about: str) -> None:
    keywords: dict[str, Any] = {
        "help": about.replace("%", "%%"),
        "default": argparse.SUPPRESS,
        "dest": key,
    }
    if bool in _types(field):
        group.add_argument(_flag(key), action=argparse.BooleanOptionalAction, **keywords)
    else:
        keywords["metavar"] = key.upper()
        group.add_argument(_flag(key), nargs=_values(field), **keywords)


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _shown(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(str(part) for part in value)
    return "none" if value is None else str(value)


def _types(field: FieldInfo) -> list[Any]:
    """Return the alternatives of a field's type, without None."""
    annotation = field.annotation
    is_union = get_origin(annotation) in (UnionType, Union)
    alternatives = get_args(annotation) if is_union else (annotation,)
    return [one for one in alternatives if one is not type(None)]


def _values(field: FieldInfo) -> int | str | None:
    """Return the number of values of an option, as argparse's `nargs`."""
    for one in map(_without_bounds, _types(field)):
        if get_origin(one) is tuple:
            return len(get_args(one))
        if get_origin(one) is list:
            return "+"
    return None


def _single(value: Any, field: FieldInfo) -> Any:
    """Unpack a single number or text, for options that accept one or a list.

    `--items 5` selects the first five items, `--items 007` the item of that name.
    """
    if _values(field) != "+" or len(value) != 1:
        return value
    alternatives = {_without_bounds(one) for one in _types(field)}
    is_count = int in alternatives and re.fullmatch("0|[1-9][0-9]*", value[0])
    is_number = float in alternatives and _is_float(value[0])
    return value[0] if is_count or is_number or str in alternatives else value


def _without_bounds(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def whole_number(lowest: int, highest: int = _LARGEST) -> Callable[[str], int]:
    """Return an argparse type for integers within bounds."""

    def parse(text: str) -> int:
        number = int(text)
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(f"{text} is not an integer from {lowest} to {highest}")
        return number

    # The name of the type in messages of argparse.
    parse.__name__ = "integer"
    return parse


def add_path(
    parser: argparse.ArgumentParser, name: str, text: str, *, required: bool = True
) -> None:
    """Add an option that takes a path."""
    parser.add_argument(name, type=Path, required=required, metavar="PATH", help=text)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add `--seed`."""
    parser.add_argument("--seed", type=whole_number(0), default=0, help="random seed (default: 0)")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--threads`."""
    parser.add_argument(
        "--threads",
        type=whole_number(1, 4096),
        default=1,
        help="number of cores to use (default: 1)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device that networks run on; auto uses a GPU if there is one (default: auto)",
    )

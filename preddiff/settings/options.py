"""Settings as command-line options, in both directions: one option per key of a settings model."""

import argparse
import shlex
from collections.abc import Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic.fields import FieldInfo

from preddiff.settings.study import Settings, validate

Model = TypeVar("Model", bound=Settings)


def add_options(parser: argparse.ArgumentParser, model: type[Settings]) -> None:
    """Add an option for each key of a model, with its description and default."""
    group = parser.add_argument_group("settings")
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else f"default: {_shown(field.default)}"
        keywords: dict[str, Any] = {
            "help": f"{field.description} ({default})".replace("%", "%%"),
            "default": argparse.SUPPRESS,
            "required": field.is_required(),
            "dest": key,
        }
        if bool in _types(field):
            group.add_argument(_flag(key), action=argparse.BooleanOptionalAction, **keywords)
        else:
            size = _values(field)
            keywords["metavar"] = key.upper()
            group.add_argument(_flag(key), nargs=size, **keywords)


def read_options(arguments: argparse.Namespace, model: type[Model]) -> Model:
    """Collect a model's settings from parsed arguments.

    Raises
    ------
    InputError
        If a value is wrong.
    """
    given = {
        key: _single(value, field)
        for key, field in model.model_fields.items()
        if (value := getattr(arguments, key, None)) is not None
    }
    return validate(model, given, "command line")


def write_options(settings: Settings) -> str:
    """Write settings as options, quoted for a shell: what `read_options` takes back."""
    words: list[str] = []
    for key, value in settings.model_dump(mode="json").items():
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(_flag(key) if value else f"--no-{_flag(key)[2:]}")
        elif isinstance(value, list):
            words += [_flag(key), *(shlex.quote(str(part)) for part in value)]
        else:
            words += [_flag(key), shlex.quote(str(value))]
    return " ".join(words)


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _shown(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(str(part) for part in value)
    return "none" if value is None else str(value)


def _types(field: FieldInfo) -> list[Any]:
    """Alternatives of a field's type, without None and without bounds."""
    annotation = field.annotation
    is_union = get_origin(annotation) is not None and type(None) in get_args(annotation)
    alternatives = get_args(annotation) if is_union or _is_union(annotation) else (annotation,)
    return [one for one in alternatives if one is not type(None)]


def _is_union(annotation: Any) -> bool:
    return str(get_origin(annotation)) in ("<class 'types.UnionType'>", "typing.Union")


def _values(field: FieldInfo) -> int | str | None:
    """Return how many values the option takes, as argparse's nargs."""
    for one in _types(field):
        if get_origin(one) is tuple:
            return len(get_args(one))
        if get_origin(one) is list:
            return "+"
    return None


def _single(value: Any, field: FieldInfo) -> Any:
    """A single value for an option that takes one or several stands for itself where it can."""
    allows_one = any(
        get_origin(one) is None or get_origin(one) not in (list, tuple) for one in _types(field)
    )
    if isinstance(value, list) and len(value) == 1 and allows_one and _values(field) == "+":
        text = value[0]
        return text if _numeric(text) else value
    return value


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

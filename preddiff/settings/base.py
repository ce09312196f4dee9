"""Base class and common types of all settings, and the messages for invalid ones."""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from preddiff.errors import InputError
from preddiff.registry import Registry

# Names become parts of file names, so characters with a meaning in paths or shells are excluded.
LONGEST_NAME = 64
Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=LONGEST_NAME)
]
# Items keep the names in their table or file. A leading hyphen would be read as an option.
ItemName = Annotated[str, StringConstraints(pattern=r"^[^-]")]
# Seeds and counts must fit into the 64-bit integers of NumPy, torch and Zarr.
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]


def _from_command_line(given: Any) -> Any:
    """Read an object from JSON, as an option on the command line gives it."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except json.JSONDecodeError as error:
        raise ValueError(f"not a JSON object: {error}") from None


# Arguments of a library's function.
Arguments = Annotated[dict[str, JsonValue], BeforeValidator(_from_command_line)]

Model = TypeVar("Model", bound="Settings")


def or_list(schema: dict[str, Any]) -> None:
    """Let a value be a list in the schema for editors, where one entry stands for several."""
    about: dict[str, Any] = {}
    for key in ("default", "description", "title"):
        if key in schema:
            about[key] = schema.pop(key)
    kinds = schema.pop("anyOf", [{**schema}])
    several = {"items": kinds[0], "minItems": 1, "type": "array"}
    schema.clear()
    schema.update({"anyOf": [*kinds, several]}, **about)


class Settings(BaseModel):
    """Base class of all settings; unknown keys raise an error that suggests the nearest one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # Keys with objects of several kinds, and the depth of these objects below the key: 1 for the
    # value itself, 2 for the values of a mapping.
    kinds_at: ClassVar[dict[str, int]] = {}
    # Registry of the kinds that the value of a key can have.
    registries: ClassVar[dict[str, "Registry[Any]"]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(unknown(str(key), list(cls.model_fields)))
        return data

    def part(self, model: type[Model]) -> Model:
        """Return the settings of one base class, for a stage that depends on these only."""
        return model(**{key: getattr(self, key) for key in model.model_fields})


def unknown(key: str, valid: list[str], what: str = "key") -> str:
    """Return the message for an unknown key or name, which suggests the nearest valid one."""
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"valid {what}s are {', '.join(valid)}"
    return f"unknown {what} '{key}': {hint}"


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises
    ------
    InputError
        If the file is missing or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not readable as YAML: {error}") from None


def validate(model: type[Model], data: Any, source: str) -> Model:
    """Validate settings.

    Parameters
    ----------
    model : type
    data : mapping
    source : str
        Origin of the settings, for error messages.

    Raises
    ------
    InputError
        If a key or value is invalid; the message has one line for each.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_line(model, problem) for problem in error.errors(include_url=False)]
        raise InputError("\n".join(f"{source}: {line}" for line in lines)) from None


def _line(model: type[Settings], problem: Any) -> str:
    where = ".".join(_places(model, list(problem["loc"])))
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        message = "this key is required"
    elif problem["type"] == "union_tag_not_found":
        given = isinstance(problem["input"], dict)
        message = "the key 'kind' is required" if given else "keys and their values are required"
    elif problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        message = f"unknown kind '{context['tag']}': valid kinds are {context['expected_tags']}"
    return f"{where}: {message}" if where else message


def _places(model: type[Settings], places: list[Any]) -> list[str]:
    """Return the keys that lead to an invalid value.

    Pydantic inserts the kind after objects of several kinds, such as `classifiers.<name>`; it is
    removed.
    """
    depth = model.kinds_at.get(str(places[0])) if places else None
    if depth is not None and len(places) > depth:
        del places[depth]
    return [str(place) for place in places]

"""What all settings have in common: their base, their types, and how faults are reported."""

import difflib
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from preddiff.errors import InputError
from preddiff.registry import Registry

# Names become parts of file names, so that they hold nothing that a path or a shell could read.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
# Items keep the names that a table or a file gives them. A leading hyphen would be an option.
ItemName = Annotated[str, StringConstraints(pattern=r"^[^-]")]
# Seeds and counts stay within what NumPy, torch and Zarr hold in 64 bits.
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]

Model = TypeVar("Model", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused by name, with the nearest valid one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # Depth of the objects of several kinds below a key: 1 for the key's own value, 2 for the
    # values of the mapping that it holds.
    kinds_at: ClassVar[dict[str, int]] = {}
    # Registry of the kinds that a key's value may be of.
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
        """Return the settings of a base of this model: what one stage depends on."""
        return model(**{key: getattr(self, key) for key in model.model_fields})


def unknown(key: str, valid: list[str], what: str = "key") -> str:
    """Message for a key or name that does not exist, with the nearest valid one."""
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
    """Check settings.

    Parameters
    ----------
    model : type
    data : mapping
    source : str
        Where the settings come from, for messages.

    Raises
    ------
    InputError
        With one line for each wrong key or value.
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
        message = "the key 'kind' is required" if given else "give keys and their values"
    elif problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        message = f"kind '{context['tag']}' is none of {context['expected_tags']}"
    return f"{where}: {message}" if where else message


def _places(model: type[Settings], places: list[Any]) -> list[str]:
    """Keys that lead to a fault, without the kinds that pydantic puts between them.

    An object of one of several kinds, such as `classifiers.<name>`, has its kind named after it.
    """
    depth = model.kinds_at.get(str(places[0])) if places else None
    if depth is not None and len(places) > depth:
        del places[depth]
    return [str(place) for place in places]

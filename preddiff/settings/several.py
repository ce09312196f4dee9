"""Entries of a configuration with a list of window sides, which stand for several explanations."""

from collections.abc import Mapping, Sequence
from typing import Any

from preddiff.methods.base import METHODS
from preddiff.samplers.base import SAMPLERS
from preddiff.settings.base import LONGEST_NAME

# Voxels of the surroundings on each side of a window that messages propose, as in the paper.
_MARGIN = 2


def with_several(study: Mapping[str, Any]) -> dict[str, Any]:
    """Replace each explanation whose `k` is a list by one explanation for each side.

    They are called `<name>-k<side>`, and have the same settings but for `k` and, if it is a list
    of the same length, `l`. Figures of the entry show all of them, in the order of the list.

    Parameters
    ----------
    study : mapping
        A configuration that has not been validated; it is not changed.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If a list is not one of different sides, `l` does not fit it, or a name is too long or
        taken. The message names the key.
    """
    entries = study.get("explanations")
    if not isinstance(entries, Mapping):
        return dict(study)
    made = {name: _several(study, name, one) for name, one in entries.items() if _is_list(one)}
    explanations: dict[str, Any] = {}
    for name, entry in entries.items():
        for new, one in made.get(name, {name: entry}).items():
            if new in explanations or (name in made and new in entries):
                raise ValueError(
                    f"explanations.{name}.k: the list makes an explanation '{new}', but there is "
                    "another one of this name: rename one of the two"
                )
            explanations[new] = one
    found = {**study, "explanations": explanations}
    if isinstance(study.get("figures"), Mapping):
        found["figures"] = {
            name: _figure(figure, made) for name, figure in study["figures"].items()
        }
    return found


def _is_list(entry: Any) -> bool:
    """Whether an explanation has a list of sides or of surroundings, and a method with windows."""
    if not isinstance(entry, Mapping):
        return False
    lists = isinstance(entry.get("k"), list) or isinstance(entry.get("l"), list)
    method = METHODS.tag(entry)
    return lists and method in METHODS.names() and "k" in METHODS[method].model_fields


def _several(study: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the explanations of an entry, by name."""
    where = f"explanations.{name}"
    sides = entry.get("k")
    if not isinstance(sides, list):
        raise ValueError(f"{where}.l: a list needs a list of k of the same length")
    if not sides or not all(type(k) is int and k > 0 for k in sides):
        raise ValueError(f"{where}.k: give one or several sides of windows, such as [3, 5, 7]")
    for k in sides:
        if sides.count(k) > 1:
            raise ValueError(f"{where}.k: {k} is listed twice")
        if len(f"{name}-k{k}") > LONGEST_NAME:
            raise ValueError(
                f"{where}: the list of k makes an explanation '{name}-k{k}', whose name is longer "
                f"than {LONGEST_NAME} characters: choose a shorter name"
            )
    outer = _surroundings(study, where, entry, sides)
    return {
        f"{name}-k{k}": {**entry, "k": k, **({} if l is None else {"l": l})}
        for k, l in zip(sides, outer, strict=True)
    }


def _surroundings(
    study: Mapping[str, Any], where: str, entry: Mapping[str, Any], sides: Sequence[int]
) -> list[Any]:
    """Return the side of the surroundings for each side of the windows; None for the default."""
    outer = entry.get("l")
    proposed = [k + 2 * _MARGIN for k in sides]
    if isinstance(outer, list):
        if len(outer) != len(sides):
            raise ValueError(
                f"{where}.l: give one side for each of k = {list(sides)}, such as {proposed}"
            )
        return outer
    if "l" not in entry and _needs_surroundings(study, entry):
        raise ValueError(
            f"{where}.l: give the sides of the surroundings for k = {list(sides)}, such as "
            f"{proposed}, because the sampler conditions on surroundings"
        )
    return [outer] * len(sides)


def _needs_surroundings(study: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    samplers, name = study.get("samplers"), entry.get("sampler")
    if not isinstance(samplers, Mapping) or not isinstance(name, str):
        return False
    sampler = samplers.get(name)
    kind = None if sampler is None else SAMPLERS.tag(sampler)
    return kind in SAMPLERS.names() and SAMPLERS[kind].needs_surroundings


def _figure(figure: Any, made: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return a figure with the explanations that entries stand for."""
    if not isinstance(figure, Mapping) or not isinstance(figure.get("explanations"), list):
        return figure
    shown = [new for name in figure["explanations"] for new in _names(name, made)]
    return {**figure, "explanations": shown}


def _names(name: Any, made: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    return list(made[name]) if isinstance(name, str) and name in made else [name]

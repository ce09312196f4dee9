"""Targets: which nodes of a classifier are explained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from preddiff.errors import InputError

Kind = Literal["probability", "logit", "value", "map"]
LAYER = "layer"
# Of a value it is that of what is predicted, which is not known.
_UNITS = {"probability": "bits", "logit": "logits", "value": "", "map": "activation"}
TRUE = "true"
# Larger than the number of maps of any layer.
_ANY_NUMBER = 1 << 62
_TOP = "top-"
_FORMS = (
    "write it as probability:CLASS, logit:CLASS, value:NAME, layer:NAME or layer:NAME:NUMBERS, "
    "such as probability:top-1 or layer:features.3:0,7"
)


@dataclass(frozen=True)
class Target:
    """A node of the classifier that is explained.

    Attributes
    ----------
    kind : {"probability", "logit", "value", "map"}
        The probability of a class is explained by the weight of evidence, in bits; its logit (the
        penultimate layer) and hidden feature maps by the activation difference, and so is the
        value of an output that is neither, such as a regression's prediction.
    label : str
        Name or number of the class; or `true`, `top-1`, `top-2`, ..., whose class depends on the
        item. For feature maps, `LAYER:NUMBER`.
    """

    kind: Kind
    label: str

    def __str__(self) -> str:
        """Return `kind:label`, as in configurations and stores."""
        return f"{self.kind}:{self.label}"

    @property
    def has_linear_evidence(self) -> bool:
        """Whether evidence is linear in the target's value, so that few draws do not bias it."""
        return self.kind != "probability"

    def problem_with_outputs(self, has_probabilities: bool) -> str | None:
        """Say why a classifier has no such node; None if it can have one.

        Parameters
        ----------
        has_probabilities : bool
            Whether the classifier's outputs are probabilities and logits of classes.
        """
        if self.kind == "value" and has_probabilities:
            return (
                f"target '{self}': the classifier's outputs are classes: write "
                f"probability:{self.label} or logit:{self.label}"
            )
        if self.kind in ("probability", "logit") and not has_probabilities:
            return (
                f"target '{self}': the classifier's outputs are neither probabilities nor logits: "
                f"write value:{self.label}"
            )
        return None

    @property
    def unit(self) -> str:
        """Unit of this target's evidence; empty if it is not known."""
        return _UNITS[self.kind]

    @property
    def rank(self) -> int | None:
        """Rank n, from 1, of a class given as `top-n`; None for other classes."""
        return int(self.label.removeprefix(_TOP)) if _is_rank(self.label) else None

    @property
    def layer(self) -> str:
        """Layer of a feature map."""
        return self.label.rpartition(":")[0]

    @property
    def number(self) -> int:
        """Number of a feature map within its layer, from 0."""
        return int(self.label.rpartition(":")[2])

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Read `kind:label`.

        Raises
        ------
        InputError
            If the text has another form.
        """
        kind, separator, label = text.partition(":")
        if not separator or kind not in get_args(Kind) or not label:
            raise InputError(f"target '{text}': {_FORMS}")
        if kind == "map" and not label.rpartition(":")[2].isdecimal():
            raise InputError(f"target '{text}': {_FORMS}")
        return cls(cast(Kind, kind), label)


def _is_rank(label: str) -> bool:
    number = label.removeprefix(_TOP)
    return label.startswith(_TOP) and number.isdecimal() and int(number) >= 1


def check_target(text: str) -> None:
    """Check that a target has one of the forms that `expand` accepts.

    Raises
    ------
    InputError
        If it has another form.
    """
    expand([text], lambda layer: _ANY_NUMBER)


def expand(texts: Sequence[str], maps: Callable[[str], int]) -> list[Target]:
    """Return the targets that a configuration lists; `layer:NAME` stands for all maps of a layer.

    Parameters
    ----------
    texts : sequence of str
    maps : callable
        Returns the number of feature maps of a layer from its name.

    Raises
    ------
    InputError
        If a target has another form, or a layer has no such map.
    """
    targets: list[Target] = []
    for text in texts:
        if text.partition(":")[0] == LAYER:
            targets += _maps_of(text, maps)
        else:
            target = Target.parse(text)
            if target.kind == "map":
                (target,) = _maps_of(f"{LAYER}:{target.label}", maps)
            targets.append(target)
    return list(dict.fromkeys(targets))


def _maps_of(text: str, maps: Callable[[str], int]) -> list[Target]:
    layer, separator, numbers = text.removeprefix(f"{LAYER}:").partition(":")
    if not layer:
        raise InputError(f"target '{text}': {_FORMS}")
    count = maps(layer)
    if not separator:
        # Where only the form is checked, the number of maps is not known.
        chosen: Sequence[int] = range(count) if count < _ANY_NUMBER else ()
    else:
        if not all(part.strip().isdecimal() for part in numbers.split(",")):
            raise InputError(f"target '{text}': {_FORMS}")
        chosen = [int(part) for part in numbers.split(",")]
    for number in chosen:
        if number >= count:
            raise InputError(f"target '{text}': layer {layer} has maps 0 to {count - 1}")
    return [Target("map", f"{layer}:{number}") for number in chosen]

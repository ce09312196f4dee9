"""Targets: which nodes of a classifier are explained."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from preddiff.errors import InputError

Kind = Literal["probability", "logit"]


@dataclass(frozen=True)
class Target:
    """A node of the classifier that is explained.

    Attributes
    ----------
    kind : {"probability", "logit"}
        A class's probability is explained by weight of evidence, in bits; its logit (the
        penultimate layer) by activation difference.
    label : str
        Name of the class.
    """

    kind: Kind
    label: str

    def __str__(self) -> str:
        """Write as `kind:label`, as in configurations and stores."""
        return f"{self.kind}:{self.label}"

    @property
    def unit(self) -> str:
        """Unit of this target's evidence."""
        return "bits" if self.kind == "probability" else "logits"

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
            raise InputError(f"target '{text}': write it as 'probability:CLASS' or 'logit:CLASS'")
        return cls(cast(Kind, kind), label)

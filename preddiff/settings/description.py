"""What a study asks for, in sentences of names and numbers from its configuration."""

from typing import Any

from preddiff.settings.study import Study

_ITEMS = {2: "images", 3: "volumes"}


def describe(study: Study) -> list[str]:
    """Say what each explanation of a study explains, and how."""
    return [f"{name}: {_explanation(study, one)}." for name, one in study.explanations.items()]


def _explanation(study: Study, one: Any) -> str:
    dataset = study.explained_dataset(one)
    kind = _ITEMS[study.datasets[dataset].dimensions]
    count = len(one.items) if isinstance(one.items, list) else one.items
    items = f"{kind} of {dataset}" if count is None else f"{count} {kind} of {dataset}"
    how = one.method.replace("-", " ")
    if one.redraws_windows:
        how += f" analysis ({one.sampler_name} sampler, windows of side {one.window_side}"
        accuracy = one.accuracy_for(study.classifiers[one.classifier])
        how += ")" if accuracy is None else f", accuracy {accuracy:g})"
    return f"{one.classifier} on {items}, by {how}"

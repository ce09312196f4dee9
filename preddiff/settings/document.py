"""Write the documentation of the configuration: config/README.md and the schema for editors.

    python -m preddiff.settings.document

writes both files in the repository; a test checks that they match the settings.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.datasets.base import DATASETS
from preddiff.figures.base import FIGURES
from preddiff.methods.base import METHODS
from preddiff.registry import Registry
from preddiff.samplers.base import SAMPLERS
from preddiff.settings.base import Settings
from preddiff.settings.study import Study

ROOT = Path(__file__).parents[2]
README = Path("config/README.md")
SCHEMA = Path("workflow/schemas/study.schema.json")

_SECTIONS: list[tuple[str, Registry[Any]]] = [
    ("datasets", DATASETS),
    ("classifiers", CLASSIFIERS),
    ("samplers", SAMPLERS),
    ("explanations", METHODS),
    ("figures", FIGURES),
]
_KEYS = {"datasets": "with key", "explanations": "of method"}


def tables() -> str:
    """Return tables of all configuration keys in Markdown, the body of config/README.md."""
    return "\n".join(_table(title, model) for title, model in _models())


def schema() -> str:
    """Return the JSON schema of a configuration."""
    return json.dumps(Study.model_json_schema(), indent=2) + "\n"


def _models() -> Iterator[tuple[str, type[Settings]]]:
    yield "The study", Study
    for section, kinds in _SECTIONS:
        for kind in kinds:
            title = f"`{section}.<name>` {_KEYS.get(section, 'of kind')} {kinds.name_of(kind)}"
            yield title, kind
            for key, nested in _nested(kind):
                yield f"`{section}.<name>.{key}`", nested


def _nested(model: type[Settings]) -> Iterator[tuple[str, type[Settings]]]:
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield key, field.annotation


def _table(title: str, model: type[Settings]) -> str:
    # Only the first paragraph; the rest is for developers.
    text = (model.__doc__ or "").strip().partition("\n\n")[0]
    lines = [f"## {title}", "", text, "", "| key | default | meaning |", "| --- | --- | --- |"]
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_default(field.default)}`"
        lines.append(f"| `{key}` | {default} | {field.description} |")
    return "\n".join([*lines, ""])


def _default(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def write(root: Path = ROOT) -> None:
    """Write both files. The text of config/README.md before the first table is kept.

    Parameters
    ----------
    root : Path
        Root folder of the repository.
    """
    readme = root / README
    head = readme.read_text().partition("## The study")[0]
    readme.write_text(head + tables())
    (root / SCHEMA).write_text(schema())


if __name__ == "__main__":
    write()

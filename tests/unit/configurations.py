"""Configurations that come with the project, as tests change them."""

from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parents[2] / "config"
_SECTIONS = ("datasets", "classifiers", "samplers", "explanations", "figures")


def every_kind() -> dict[str, Any]:
    """The default study with the study of digits, whose names differ, in one configuration."""
    found: dict[str, Any] = yaml.safe_load((CONFIG / "config.yaml").read_text())
    digits = yaml.safe_load((CONFIG / "digits.yaml").read_text())
    for section in _SECTIONS:
        same = {name for name in digits[section] if name in found[section]}
        assert all(digits[section][name] == found[section][name] for name in same)
        found[section] |= digits[section]
    return found

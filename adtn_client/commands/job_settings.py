"""From the words of the command line to the settings of a job."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adtn_client.errors import LocalError, UsageError

TARGETS = ("parameters", "ratio", "max_accuracy_drop")


def without_unset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what was not asked for, at every depth, so that the server's defaults hold."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        inner = without_unset(value) if isinstance(value, Mapping) else value
        if inner is not None and inner != {}:
            kept[name] = inner
    return kept


def target(text: str | None) -> dict[str, Any] | None:
    """Read `parameters=1250`, `ratio=60`, or a bare number, which counts parameters.

    Raises:
        UsageError: It is none of these.
    """
    if text is None:
        return None
    name, _, value = text.rpartition("=")
    name = name.strip() or "parameters"
    if name not in TARGETS:
        raise UsageError(f"--target: expected one of {', '.join(TARGETS)}, got {name!r}")
    return {name: number("--target", value)}


def layers(text: str | None) -> list[str | list[str]] | str | None:
    """Read a list with commas of names or globs, or `auto`; `fc1+fc2` is a group."""
    if text is None or text == "auto":
        return text
    groups = [listed(item, "+") for item in listed(text, ",")]
    return [group if len(group) > 1 else group[0] for group in groups if group]


def listed(text: str, separator: str = ",") -> list[str]:
    """The words between separators, without blanks around them; empty ones are left out."""
    return [word.strip() for word in text.split(separator) if word.strip()]


def size(option: str, text: str | None) -> list[int] | None:
    """Read `32x48`: a height and a width.

    Raises:
        UsageError: It is no such text.
    """
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isascii() and height.isdigit() and width.isascii() and width.isdigit()):
        raise UsageError(f"{option}: expected HEIGHTxWIDTH in pixels, such as 32x32, got {text!r}")
    return [int(height), int(width)]


def normalization(mean: str | None, std: str | None) -> dict[str, list[float | int]] | None:
    """Read `0.49,0.48,0.45`: the mean of each channel, and its standard deviation likewise.

    Raises:
        UsageError: One is there without the other, or holds what is no number.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise UsageError("--mean, --std: expected both or neither")
    return {
        "mean": [number("--mean", word) for word in listed(mean)],
        "std": [number("--std", word) for word in listed(std)],
    }


def json_object(option: str, path: Path) -> dict[str, Any]:
    """Read the object that a JSON file holds.

    Raises:
        LocalError: It holds something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LocalError(f"{option}: {path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise LocalError(f"{option}: expected a JSON object in {path}, got {type(value).__name__}")
    return value


def number_or_auto(option: str, text: str | None) -> float | int | str | None:
    """Read a number, or `auto`.

    Raises:
        UsageError: It is neither.
    """
    return text if text is None or text == "auto" else number(option, text)


def number(option: str, text: str) -> float | int:
    """Read a number as JSON has it, whole or not.

    Raises:
        UsageError: It is no number.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{option}: expected a number, got {text!r}")
    return value

"""Which layers a user means: exact names, glob patterns, or every layer that is worth it."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from adtn.errors import PlanError
from adtn.layer import Layer

GLOB_CHARACTERS = frozenset("*?[")


def named_layers(layers: Sequence[Layer], names: Sequence[str]) -> list[Layer]:
    """The layers that `names` mean, in the order of `layers`, each once, ineligible ones of a pattern left out.

    Args:
        layers: All layers of the model.
        names: Each a layer's name or key, or a case-sensitive glob over these.

    Raises:
        PlanError: layer_not_found when an item matches nothing, layer_not_eligible when all that an item matches
            cannot be encoded.
    """
    chosen: set[str] = set()
    for name in names:
        matches = [layer for layer in layers if _matches(name, layer)]
        if not matches:
            raise PlanError("layer_not_found", _not_found(name, layers))
        eligible = [layer.key for layer in matches if layer.eligible]
        if not eligible:
            reasons = "; ".join(f"{layer.name!r}: {layer.reason}" for layer in matches)
            raise PlanError("layer_not_eligible", f"layers: {name!r} matches only what cannot be encoded ({reasons})")
        chosen.update(eligible)
    return [layer for layer in layers if layer.key in chosen]


def _matches(pattern: str, layer: Layer) -> bool:
    if pattern in (layer.name, layer.key):
        return True
    return not GLOB_CHARACTERS.isdisjoint(pattern) and (
        fnmatchcase(layer.name, pattern) or fnmatchcase(layer.key, pattern)
    )


def _not_found(name: str, layers: Sequence[Layer]) -> str:
    known = list(dict.fromkeys(layer.name for layer in layers))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(known[:50]) + (f", and {len(known) - 50} more" if len(known) > 50 else "")
    return f"layers: {name!r} matches no layer{hint} The model has: {shown or 'none with 2 or more dimensions'}"

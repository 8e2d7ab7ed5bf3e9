"""Which layers a user means: exact names and glob patterns, and groups of them."""

import difflib
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase

from adtn.errors import PlanError
from adtn.layer import Layer

GLOB_CHARACTERS = frozenset("*?[")


Names = Sequence[str | Sequence[str]]
"""What a user names: each item a layer's name or key, a glob over these, or a list of such for one group."""


def named_layers(layers: Sequence[Layer], names: Names) -> list[Layer]:
    """The layers that `names` mean, in the order of `layers`, each once.

    Args:
        layers: All layers of the model.
        names: Each a layer's name or key, or a case-sensitive glob over these. An item that is a list of them is a
            group: all that it means becomes one layer (see `Layer.group`), at the place of the first, and no other
            item's pattern means it.

    Returns:
        With layers that cannot be encoded where a pattern means them beside others; they are in no group.

    Raises:
        PlanError: layer_not_found when an item matches nothing, layer_not_eligible when all that an item matches
            cannot be encoded, group_invalid when a group has fewer than two layers, weights of several dtypes, or a
            layer of another group.
    """
    model = _Model(layers)
    groups = [model.members(item) for item in names if not isinstance(item, str)]
    _check_groups(groups)
    grouped = {layer.key for group in groups for layer in group}
    first = {group[0].key: Layer.group(group) for group in groups}
    chosen = {layer.key for layer in model.meant(each_name(names))} - grouped | first.keys()
    return [first.get(layer.key, layer) for layer in layers if layer.key in chosen]


def each_name(names: Names) -> list[str]:
    """All names and patterns, those in groups too."""
    return [name for item in names for name in ([item] if isinstance(item, str) else item)]


class _Model:
    """The layers of a model, found by name and by key without a look at each."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self._places: dict[str, list[int]] = {}
        for place, layer in enumerate(layers):
            for name in {layer.name, layer.key}:
                self._places.setdefault(name, []).append(place)

    def meant(self, names: Sequence[str]) -> list[Layer]:
        """All that is meant, in the model's order."""
        places = {place for name in names for place in self._meant_by(name)}
        return [self._layers[place] for place in sorted(places)]

    def members(self, names: Sequence[str]) -> list[Layer]:
        """The layers of a group."""
        return [layer for layer in self.meant(names) if layer.eligible]

    def _meant_by(self, name: str) -> Sequence[int]:
        places = self._places.get(name, [])
        if not GLOB_CHARACTERS.isdisjoint(name):
            exact = set(places)  # a name may itself hold what a pattern is made of
            places = [
                place
                for place, layer in enumerate(self._layers)
                if place in exact or fnmatchcase(layer.name, name) or fnmatchcase(layer.key, name)
            ]
        matches = [self._layers[place] for place in places]
        if not matches:
            raise PlanError("layer_not_found", _not_found(name, self._layers))
        if not any(layer.eligible for layer in matches):
            reasons = "; ".join(f"{layer.name!r}: {layer.reason}" for layer in matches)
            raise PlanError("layer_not_eligible", f"layers: {name!r} matches only what cannot be encoded ({reasons})")
        return places


def _check_groups(groups: Sequence[Sequence[Layer]]) -> None:
    """Refuse a group of one, of several dtypes, and a layer in two groups."""
    for group in groups:
        if len(group) < 2:
            raise PlanError(
                "group_invalid", f"layers: expected at least two layers in a group, got {group[0].name!r} alone"
            )
        dtypes = list(dict.fromkeys(layer.dtype for layer in group))
        if len(dtypes) > 1:
            raise PlanError(
                "group_invalid",
                f"layers: expected weights of one dtype in a group, got {' and '.join(dtypes)} with {group[0].name!r}",
            )
    names = Counter(layer.name for group in groups for layer in group)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise PlanError("group_invalid", f"layers: expected {twice[0]!r} in one group, got it in {names[twice[0]]}")


def _not_found(name: str, layers: Sequence[Layer]) -> str:
    known = list(dict.fromkeys(layer.name for layer in layers))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    shown = ", ".join(known[:50]) + (f", and {len(known) - 50} more" if len(known) > 50 else "")
    return f"layers: {name!r} matches no layer{hint} The model has: {shown or 'none with 2 or more dimensions'}"

"""At how many positions of an input a network applies each weight, guessed from the shapes of the weights alone.

A convolution multiplies each of its entries once a pixel of its output, so that without positions the work of a network
for images is told ten to three hundred times too small. Strides and pools are not in a checkpoint, but most networks
are made by the same rules: they halve the image where kernels get wider than any before; a first kernel of even width
cuts the image into patches, which linear layers then see one by one; a larger one of odd width comes with a stride and
a pool.
"""

import math
import re
from collections.abc import Sequence

from adtn.plan import Layer

MOST_SHRUNK = 32
"""By what networks for images divide height and width at most."""
WIDE_KERNEL = 7
"""From here on a first kernel of odd width has a stride, and usually a pool behind it."""
WIDE_SHRINKS = 4
LARGE_IMAGE = 128
NARROW_STEM = 48
"""Networks that begin with so few channels, and are meant for large images, have a stride in their first layer."""
_CONVOLUTION = re.compile(r"conv(_transpose)?([123])d")


def positions(layers: Sequence[Layer], sample: Sequence[int], *, is_text: bool) -> dict[str, int]:
    """For each layer's key the positions at which it is applied to one input; 0 for tables that are only looked up.

    Args:
        layers: All that the checkpoint has, in its order.
        sample: Shape of one input, without the batch; () where it is not known.
        is_text: Whether the network is known to read sequences of tokens; so it does if it has a table of them.
    """
    if len(sample) == 1 and (is_text or any(layer.kind == "embedding" for layer in layers)):
        return {layer.key: 0 if _is_table(layer) else sample[0] for layer in layers}
    in_order = _in_order(layers)
    stems = [layer for layer in in_order if _is_stem(layer, sample)]
    stem = max(
        stems, key=lambda layer: max(layer.shape[2:]) > 1, default=None
    )  # the first wider than a pixel, if any is
    if stem is None:
        steps = sample[0] if len(sample) == 2 else 1  # of a sequence
        return {layer.key: 0 if _is_table(layer) else steps if layer.kind == "recurrent" else 1 for layer in layers}
    image = _Image(stem, sample[-(len(stem.shape) - 2) :])
    found = {stem.key: image.positions}
    for layer in in_order:
        if layer is not stem:
            found[layer.key] = image.positions_of(layer)
    return found


class _Image:
    """An image on its way through a network, behind its first convolution.

    Args:
        stem: That convolution.
        sides: Height and width of the input, or as many sizes as the convolution has axes.
    """

    def __init__(self, stem: Layer, sides: Sequence[int]) -> None:
        kernel = max(stem.shape[2:])
        self._sides = list(sides)
        self._least = [max(1, side // MOST_SHRUNK) for side in sides]
        self._dimensions = len(stem.shape)
        self._widest = stem.shape[0]
        self._in_patches = kernel % 2 == 0
        if self._in_patches:
            self._shrink(kernel)
        elif kernel >= WIDE_KERNEL:
            self._shrink(WIDE_SHRINKS)
        elif kernel > 1 and max(sides) >= LARGE_IMAGE and stem.shape[0] <= NARROW_STEM:
            self._shrink(2)

    @property
    def positions(self) -> int:
        """Pixels that are left, or patches."""
        return math.prod(self._sides)

    def positions_of(self, layer: Layer) -> int:
        """Where the next layer is applied; the image is smaller behind some."""
        if _CONVOLUTION.fullmatch(layer.kind) and len(layer.shape) == self._dimensions:
            if max(layer.shape[2:]) > 1 and layer.shape[0] > self._widest:
                self._widest = layer.shape[0]
                self._shrink(2)
            return self.positions
        if layer.kind == "recurrent":  # reads it column by column
            return self._sides[-1]
        if layer.kind != "linear":  # a table, or one that is added
            return 0
        if self._in_patches and layer.shape[1] == 2 * layer.shape[0]:  # merges four patches into one
            self._shrink(2)
        return self.positions if self._in_patches else 1

    def _shrink(self, factor: int) -> None:
        self._sides = [max(least, side // factor) for side, least in zip(self._sides, self._least, strict=True)]


def _in_order(layers: Sequence[Layer]) -> list[Layer]:
    """As the network uses them: a checkpoint's own order, unless it is that of the alphabet, as safetensors writes."""
    keys = [layer.key for layer in layers]
    return list(layers) if keys != sorted(keys) else sorted(layers, key=_by_number)


def _by_number(layer: Layer) -> list[tuple[int, str]]:
    """So that `features.10` comes after `features.2`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", layer.key)]


def _is_stem(layer: Layer, sample: Sequence[int]) -> bool:
    """Whether a layer takes the channels of the input."""
    axes = len(layer.shape) - 2
    if not _CONVOLUTION.fullmatch(layer.kind) or len(sample) not in {axes, axes + 1}:
        return False
    return layer.shape[1] == (sample[0] if len(sample) > axes else 1)


def _is_table(layer: Layer) -> bool:
    return layer.kind in {"embedding", "parameter"} or "embed" in layer.name

"""Where the layers of a sequential network stand, in torchvision's numbering, so which keys its state dict has.

Everything in `features` and in `classifier` counts, also what has no weights. After a convolution come batch norm, if
there is any, a ReLU, and a pool where the network has one. ZFNet, which torchvision lacks, is numbered like AlexNet.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from worker.architectures.networks import ALEXNET_CLASSIFIER, VGG_CLASSIFIER, Network
from worker.architectures.shapes import Pattern

# What may stand in `classifier`: the places of the linear layers are different in each. "" is one linear layer that is
# not numbered, `classifier.weight`. All but the first two are usual for small images.
CLASSIFIERS = (
    ALEXNET_CLASSIFIER,
    VGG_CLASSIFIER,
    "linear relu linear relu linear",
    "linear relu dropout linear",
    "dropout linear relu dropout linear",
    "linear relu linear",
    "linear",
    "dropout linear",
    "",
)


@dataclass(frozen=True)
class Layout:
    """One arrangement of a network's layers.

    Attributes:
        network: The network.
        batch_norm: Whether batch norm follows each convolution.
        bias: Whether convolutions have a bias; without batch norm they do.
        classifier: One of `CLASSIFIERS`.
    """

    network: Network
    batch_norm: bool
    bias: bool
    classifier: str

    @property
    def numbers(self) -> range:
        """Of the convolutions, from 1."""
        return range(1, len(self.network.widths) + 1)

    @property
    def convolutions(self) -> tuple[str, ...]:
        """The names of the convolutions, in order."""
        return tuple(f"features.{position}" for position in self._positions())

    @property
    def norms(self) -> tuple[str, ...]:
        """The names of the batch norms, in order."""
        return tuple(f"features.{position + 1}" for position in self._positions()) if self.batch_norm else ()

    @property
    def linear(self) -> tuple[str, ...]:
        """The names of the linear layers, in order."""
        kinds = enumerate(self.classifier.split())
        return tuple(f"classifier.{position}" for position, kind in kinds if kind == "linear") or ("classifier",)

    def pattern(self) -> Pattern:
        """The sizes of all tensors that a checkpoint must have.

        They are called "channels", "conv1", "kernel1", ..., "features", "fc1", ..., "classes".
        """
        pattern: dict[str, tuple[str, ...]] = {}
        before = "channels"
        for number, key in enumerate(self.convolutions, 1):
            width, kernel = f"conv{number}", f"kernel{number}"
            pattern[f"{key}.weight"] = (width, before, kernel, kernel)
            if self.bias:
                pattern[f"{key}.bias"] = (width,)
            if self.batch_norm:
                norm = self.norms[number - 1]
                pattern |= {f"{norm}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
            before = width
        before = "features"
        for number, key in enumerate(self.linear, 1):
            width = "classes" if number == len(self.linear) else f"fc{number}"
            pattern |= {f"{key}.weight": (width, before), f"{key}.bias": (width,)}
            before = width
        return pattern

    def counters(self) -> Pattern:
        """What a checkpoint may have besides: batches that each batch norm has seen, counted since torch 0.4.1."""
        return {f"{norm}.num_batches_tracked": () for norm in self.norms}

    def _positions(self) -> Iterator[int]:
        """Of the convolutions in `features`."""
        position = 0
        for number in self.numbers:
            yield position
            position += 2 + self.batch_norm + (number in self.network.pooled)


def layouts(network: Network) -> Iterator[Layout]:
    """All arrangements of a network, the published classifier first."""
    for classifier in dict.fromkeys((network.classifier, *CLASSIFIERS)):
        for batch_norm, bias in ((False, True), (True, True), (True, False)):
            yield Layout(network, batch_norm, bias, classifier)


def closest(network: Network, keys: Collection[str]) -> Layout:
    """The arrangement with the fewest keys that are missing or too many; of several the first."""

    def misfits(layout: Layout) -> int:
        needed = layout.pattern().keys()
        return len(needed - keys) + len(keys - needed - layout.counters().keys())

    return min(layouts(network), key=misfits)

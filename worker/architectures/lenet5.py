"""`lenet5`: two convolutions, each with ReLU and 2 x 2 max pooling, then three fully connected layers.

The padding of the convolutions leaves no trace in the weights, only the number of inputs of fc1 does: it is the padding
for which samples of the given size end up as that many features. 28 x 28 with kernels of 5 and 400 features is the
padding (2, 0) of the usual variant for MNIST; 32 x 32 with the same weights is the (0, 0) of the original.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.problems import Fault, ProblemError
from worker.architectures.architecture import Architecture, ambiguity_caveats, load_float32
from worker.architectures.shapes import Pattern, as_image, mismatch, read_sizes

KEYS: Pattern = {
    "conv1.weight": ("conv1", "channels", "kernel1", "kernel1"),
    "conv1.bias": ("conv1",),
    "conv2.weight": ("conv2", "conv1", "kernel2", "kernel2"),
    "conv2.bias": ("conv2",),
    "fc1.weight": ("fc1", "features"),
    "fc1.bias": ("fc1",),
    "fc2.weight": ("fc2", "fc1"),
    "fc2.bias": ("fc2",),
    "fc3.weight": ("classes", "fc2"),
    "fc3.bias": ("classes",),
}
POOL = 2


class LeNet5(nn.Module):
    """conv1, conv2, fc1, fc2, fc3: (batch, channels, height, width) -> (batch, classes)."""

    def __init__(self, sizes: Mapping[str, int], padding: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(sizes["channels"], sizes["conv1"], sizes["kernel1"], padding=padding[0])
        self.conv2 = nn.Conv2d(sizes["conv1"], sizes["conv2"], sizes["kernel2"], padding=padding[1])
        self.fc1 = nn.Linear(sizes["features"], sizes["fc1"])
        self.fc2 = nn.Linear(sizes["fc1"], sizes["fc2"])
        self.fc3 = nn.Linear(sizes["fc2"], sizes["classes"])

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of a batch."""
        x = functional.max_pool2d(torch.relu(self.conv1(x)), POOL)  # (batch, conv1, height / 2, width / 2)
        x = functional.max_pool2d(torch.relu(self.conv2(x)), POOL)  # (batch, conv2, height / 4, width / 4)
        x = torch.relu(self.fc1(x.flatten(1)))  # (batch, features) -> (batch, fc1)
        x = torch.relu(self.fc2(x))  # (batch, fc2)
        scores: Tensor = self.fc3(x)  # (batch, classes)
        return scores


@dataclass(frozen=True)
class Variant:
    """One padding of the two convolutions, with a sample size that fits the weights.

    Attributes:
        padding: Of conv1 and conv2.
        input_shape: (channels, height, width).
    """

    padding: tuple[int, int]
    input_shape: tuple[int, int, int]


def build(state: Mapping[str, Tensor], input_shape: tuple[int, ...] | None) -> Architecture:
    """Build lenet5 in the sizes of a state dict.

    Args:
        state: Keys as in `KEYS`; kernels are square.
        input_shape: Of one sample, (channels, height, width), or (height, width) for one channel; None if there are no
            data: then an input size is worked out from the number of features.

    Raises:
        ProblemError: `checkpoint_mismatch` or `dataset_mismatch`.
    """
    sizes = read_sizes("lenet5", KEYS, state)
    variants = candidates(sizes, input_shape)
    model = LeNet5(sizes, variants[0].padding)
    details = {
        **sizes,
        "input": list(variants[0].input_shape),
        "padding": list(variants[0].padding),
        "candidates": [{"padding": list(variant.padding), "input": list(variant.input_shape)} for variant in variants],
        "notes": load_float32(model, state),
    }
    return Architecture("lenet5", model, variants[0].input_shape, details, caveats=ambiguity_caveats(len(variants)))


def candidates(sizes: Mapping[str, int], input_shape: tuple[int, ...] | None) -> list[Variant]:
    """The paddings that fit the weights, the most usual first.

    Args:
        sizes: Of the patterns in `KEYS`.
        input_shape: As in `build`.

    Raises:
        ProblemError: None fits: `checkpoint_mismatch` without an input shape, else `dataset_mismatch`.
    """
    if input_shape is None:
        return list(_derived(sizes))
    shape = as_image("conv1.weight", sizes["channels"], input_shape)
    fitting = [
        Variant(padding, shape) for padding in _paddings(sizes) if _features(sizes, padding, shape) == sizes["features"]
    ]
    if not fitting:
        got = ", ".join(f"{_features(sizes, padding, shape)} with padding {padding}" for padding in _paddings(sizes))
        fits = ", ".join(str(variant.input_shape) for variant in _derived(sizes))
        raise ProblemError(
            "dataset_mismatch",
            f"fc1.weight expects {sizes['features']} features, samples of shape {shape} give {got}; "
            f"samples of these shapes would fit: {fits}",
        )
    return fitting


def _paddings(sizes: Mapping[str, int]) -> list[tuple[int, int]]:
    """Paddings of (conv1, conv2) from the most usual to the least; "same" keeps the size of an odd kernel's input."""
    same1, same2 = (sizes["kernel1"] - 1) // 2, (sizes["kernel2"] - 1) // 2
    return list(dict.fromkeys([(same1, 0), (0, 0), (same1, same2), (0, same2)]))


def _features(sizes: Mapping[str, int], padding: tuple[int, int], shape: tuple[int, int, int]) -> int:
    """Inputs of fc1 for samples of a shape; 0 if they are too small."""
    lengths = list(shape[1:])
    for kernel, pad in ((sizes["kernel1"], padding[0]), (sizes["kernel2"], padding[1])):
        lengths = [max(0, length + 2 * pad - kernel + 1) // POOL for length in lengths]
    return sizes["conv2"] * math.prod(lengths)


def _derived(sizes: Mapping[str, int]) -> Iterator[Variant]:
    """A sample size for each padding, backwards from the number of features; as square as it can be."""
    area, rest = divmod(sizes["features"], sizes["conv2"])
    if rest:
        detail = f"expected (fc1, a multiple of conv2's {sizes['conv2']} channels), got (fc1, {sizes['features']})"
        raise mismatch("lenet5", [Fault("fc1.weight", detail, "checkpoint_mismatch")])
    height = next(side for side in range(math.isqrt(area), 0, -1) if area % side == 0)
    for padding in _paddings(sizes):
        lengths = (height, area // height)
        for kernel, pad in ((sizes["kernel2"], padding[1]), (sizes["kernel1"], padding[0])):
            lengths = (lengths[0] * POOL - 2 * pad + kernel - 1, lengths[1] * POOL - 2 * pad + kernel - 1)
        yield Variant(padding, (sizes["channels"], *lengths))

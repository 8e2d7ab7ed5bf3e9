"""State dicts of AlexNet, ZFNet and VGG-16 from published facts: where their layers stand, and how wide they are.

Positions and shapes are those of torchvision, files models/alexnet.py and vgg.py (configuration D), and for
ZFNet those of AlexNet with the kernels and widths of arXiv:1311.2901, figure 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Published:
    """A network as it was published.

    Attributes:
        positions: Of the convolutions in `features`, without batch norm.
        norm_positions: The same with batch norm, which stands right after each convolution.
        widths: Of the convolutions.
        kernels: Of the convolutions.
        linear: Positions in `classifier`.
        area: Positions of the map that the classifier takes, at 224 x 224.
    """

    positions: tuple[int, ...]
    norm_positions: tuple[int, ...]
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    linear: tuple[int, ...]
    area: int


PUBLISHED = {
    "alexnet": Published(
        (0, 3, 6, 8, 10), (0, 4, 8, 11, 14), (64, 192, 384, 256, 256), (11, 5, 3, 3, 3), (1, 4, 6), 36
    ),
    "zfnet": Published((0, 3, 6, 8, 10), (0, 4, 8, 11, 14), (96, 256, 384, 384, 256), (7, 5, 3, 3, 3), (1, 4, 6), 36),
    "vgg16": Published(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
        (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
        (3,) * 13,
        (0, 3, 6),
        49,
    ),
}


def sequential_state(
    name: str,
    *,
    batch_norm: bool = False,
    bias: bool = True,
    counters: bool = True,
    widths: Sequence[int] | None = None,
    kernels: Sequence[int] | None = None,
    area: int | None = None,
    hidden: Sequence[int] = (4096, 4096),
    linear: Sequence[int] | None = None,
    channels: int = 3,
    classes: int = 1000,
) -> dict[str, Tensor]:
    """A state dict with random weights, on the default device.

    Args:
        name: A key of `PUBLISHED`; what is not given is as published.
        batch_norm: With batch norm after every convolution.
        bias: Whether convolutions have one.
        counters: Whether batch norm counts its batches; torch before 0.4.1 did not.
        widths: Of the convolutions.
        kernels: Of the convolutions.
        area: Positions of the map that the classifier takes.
        hidden: Widths of the hidden linear layers.
        linear: Positions of the linear layers; () for a classifier that is one linear layer itself.
        channels: Of the images.
        classes: That are told apart.
    """
    published = PUBLISHED[name]
    widths = widths or published.widths
    state: dict[str, Tensor] = {}
    before = channels
    positions = published.norm_positions if batch_norm else published.positions
    for position, width, kernel in zip(positions, widths, kernels or published.kernels, strict=True):
        # Scaled so that numbers keep their size through the network.
        state[f"features.{position}.weight"] = torch.randn(width, before, kernel, kernel) / (before * kernel**2) ** 0.5
        if bias:
            state[f"features.{position}.bias"] = torch.randn(width)
        if batch_norm:
            state |= _norm(f"features.{position + 1}", width, counters)
        before = width
    before *= published.area if area is None else area
    places = published.linear if linear is None else linear
    keys = [f"classifier.{position}" for position in places] or ["classifier"]
    for key, width in zip(keys, (*hidden, classes), strict=True):
        state[f"{key}.weight"] = torch.randn(width, before) / before**0.5
        state[f"{key}.bias"] = torch.randn(width)
        before = width
    return state


def _norm(key: str, width: int, counters: bool) -> dict[str, Tensor]:
    state = {
        f"{key}.weight": torch.randn(width),
        f"{key}.bias": torch.randn(width),
        f"{key}.running_mean": torch.randn(width),
        f"{key}.running_var": torch.rand(width) + 0.5,
    }
    return state | ({f"{key}.num_batches_tracked": torch.tensor(7)} if counters else {})

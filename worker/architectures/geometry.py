"""Lengths of feature maps: plain arithmetic on windows that slide over images."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Window:
    """A square window of a convolution or of a pool.

    Attributes:
        kernel: Its side.
        stride: Positions between two windows.
        padding: Positions added at both ends.
        ceil: Whether a last window may reach beyond the end, as in `ceil_mode` of torch's pools.
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    ceil: bool = False

    def out(self, length: int) -> int:
        """How many windows fit along a side; 0 if it is too short."""
        room = length + 2 * self.padding - self.kernel
        if length < 1 or (room < 0 and not self.ceil):
            return 0
        if not self.ceil:
            return room // self.stride + 1
        count = -(-room // self.stride) + 1
        # A window that would begin in the padding behind the end is left out.
        return max(0, count - 1 if (count - 1) * self.stride >= length + self.padding else count)


@dataclass(frozen=True)
class Form:
    """How a sequential convolutional network slides over its input: all that its weights do not say.

    Attributes:
        convolutions: In order.
        pools: After each convolution the pool that follows, or None.
        grid: The side of the map that adaptive average pooling makes; None without.
    """

    convolutions: tuple[Window, ...]
    pools: tuple[Window | None, ...]
    grid: int | None = None

    def windows(self) -> Iterator[Window]:
        """Convolutions and pools in the order in which they act."""
        for convolution, pool in zip(self.convolutions, self.pools, strict=True):
            yield convolution
            if pool is not None:
                yield pool

    def lengths(self, length: int) -> list[int]:
        """The side of the map after each window, for a side of the image."""
        found = []
        for window in self.windows():
            length = window.out(length)
            found.append(length)
        return found

    def map_length(self, length: int) -> int:
        """The side of the last map before the average, for a side of the image; 0 if that is too short."""
        return self.lengths(length)[-1]

    def area(self, height: int, width: int) -> int:
        """Positions of the map that the classifier takes; 0 if the image is too small."""
        positions = self.map_length(height) * self.map_length(width)
        return self.grid**2 if self.grid is not None and positions else positions

    def enlarges(self, height: int, width: int) -> bool:
        """Whether the average makes a map larger, so that numbers in it repeat."""
        return self.grid is not None and min(self.map_length(height), self.map_length(width)) < self.grid

    def effect(self, height: int, width: int) -> tuple[object, ...]:
        """What the form does to images of a size: forms with the same effect are the same function."""
        heights, widths = self.lengths(height), self.lengths(width)
        steps = [
            (window.kernel, window.stride, window.padding, rows, columns)
            for window, rows, columns in zip(self.windows(), heights, widths, strict=True)
        ]
        changes = self.grid is not None and (heights[-1], widths[-1]) != (self.grid, self.grid)
        return (*steps, self.grid if changes else None)

    def described(self) -> dict[str, Any]:
        """As plain data.

        Returns:
            "strides" and "padding" of the convolutions; "pools", each with the number of the convolution before it;
            "average_pool", the side of the averaged map, or None.
        """
        return {
            "strides": [window.stride for window in self.convolutions],
            "padding": [window.padding for window in self.convolutions],
            "pools": [
                {"after": number, **asdict(pool)} for number, pool in enumerate(self.pools, 1) if pool is not None
            ],
            "average_pool": self.grid,
        }

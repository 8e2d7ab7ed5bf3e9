"""One ADTN for several weights: it holds them one after the other, and each takes its share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adtn.errors import ShapeError
from adtn.module import ADTN


class Share(nn.Module):
    """One weight of several that an ADTN holds, each flattened and all of them joined.

    Registered with `torch.nn.utils.parametrize` (see `adtn.encode_together`) it stands in the place of the weight.

    Args:
        adtn: Of shape (entries,).
        start: Place of the weight's first entry.
        shape: Of the weight.

    Source: one network for the joined weights of several layers is proposed in arXiv:2305.06058.
    """

    def __init__(self, adtn: ADTN, start: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.adtn = adtn
        self.start = start
        self.shape = torch.Size(shape)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weight."""
        return self.adtn.dtype

    def forward(self) -> Tensor:
        """The decoded weight, differentiable as that of the ADTN is.

        Where the ADTN decodes anew at each use, so it does for each share: train within `decoded_once`.
        """
        return self.of(self.adtn())

    def of(self, decoded: Tensor) -> Tensor:
        """The weight within all that the ADTN holds, (entries,): a view."""
        return decoded.narrow(0, self.start, self.shape.numel()).view(self.shape)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Tell `parametrize` that no dense original is stored: see `ADTN.right_inverse`.

        Raises:
            ShapeError: The weight has another shape; or the ADTN is already in place, so that this is an assignment.
        """
        self.adtn.check_assignment(weight, self.shape)
        return ()

    def extra_repr(self) -> str:
        """Place and shape, for `print(model)`."""
        return f"start={self.start}, shape={tuple(self.shape)}"


def joined(weights: Sequence[Tensor]) -> Tensor:
    """What one ADTN is fitted to: a weight as it is, or several flattened and joined, (entries,).

    Args:
        weights: At least one, of one dtype.

    Raises:
        ShapeError: Their dtypes differ.
    """
    if len(weights) == 1:
        return weights[0]
    dtypes = {weight.dtype for weight in weights}
    if len(dtypes) > 1:
        raise ShapeError(f"expected weights of one dtype to join, got {', '.join(sorted(map(str, dtypes)))}")
    return torch.cat([weight.detach().flatten() for weight in weights])


def shares(adtn: ADTN, shapes: Sequence[Sequence[int]]) -> list[Share]:
    """The shares of weights that an ADTN holds in this order.

    Args:
        adtn: Of shape (entries,), as many as the weights have together.
        shapes: Of the weights.
    """
    found, start = [], 0
    for shape in shapes:
        found.append(Share(adtn, start, shape))
        start += found[-1].shape.numel()
    return found

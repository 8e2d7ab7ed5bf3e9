"""The mean and the second moment of a layer's inputs: which directions of its weight matter to its outputs."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from adtn.modes import evaluating

MAX_ROW = 4608
"""Longest row of a weight for which the moment (row, row) is gathered: a 3x3 convolution of 512 channels."""
MAX_SAMPLES = 2000
"""Samples looked at; more change a moment little."""
_BATCH = 100
_POSITIONS = 8  # of a convolution's output along each axis: neighbouring ones see nearly the same inputs

_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


@dataclass(frozen=True)
class InputMoments:
    """Of what one row of a weight, flattened, is multiplied with: x.

    Where the layer has a bias, an error of the weight in the direction of the mean input costs nothing: the bias takes
    it up (see `encode`). The fit then need not spend gates on it, and outputs vary about the mean as they did.

    Args:
        second: E[(x - mean) (x - mean)^T] for a layer with a bias, else E[x x^T]; (row, row).
        mean: E[x] for a layer with a bias, else None; (row,).
    """

    second: Tensor
    mean: Tensor | None


def input_moments(model: nn.Module, inputs: Tensor, keys: Collection[str]) -> dict[str, InputMoments]:
    """Run samples through a model and gather the moments of the inputs of some of its layers, for `fit` and `encode`.

    Linear layers and convolutions (not transposed, one group) are covered. For other weights there is no entry, and a
    fit takes the plain norm.

    Args:
        model: Run in evaluation mode; not changed.
        inputs: (N, ...); the first 2,000 samples are used, so they should not be sorted.
        keys: Of the weights ("fc1.weight").

    Returns:
        Moments by key, float32, on the model's device.
    """
    device = next(model.parameters()).device
    sums = {key: _Sums(model.get_submodule(key.rpartition(".")[0])) for key in keys if _is_covered(model, key)}
    with evaluating(model), torch.no_grad(), _gathering(sums):
        for batch in torch.split(inputs[:MAX_SAMPLES], _BATCH):
            model(batch.to(device))
    return {key: found.moments() for key, found in sums.items() if found.count}


class _Sums:
    """Sums over the inputs of one layer.

    Where the mean is taken off, sums are of the distance from the first input seen: a large mean would cost the small
    differences about it their digits.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.centred = module.bias is not None
        self.count = 0
        self.origin: Tensor | None = None

    def add(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """A forward pre-hook."""
        rows = _rows(module, arguments[0]).float()
        if self.origin is None:
            self.origin = rows[0].clone() if self.centred else torch.zeros_like(rows[0])
            self.first = torch.zeros_like(rows[0])
            self.second = rows.new_zeros(rows.shape[1], rows.shape[1])
        rows = rows - self.origin
        self.first += rows.sum(0)
        self.second += rows.T @ rows
        self.count += len(rows)

    def moments(self) -> InputMoments:
        """The moments of all inputs so far, at least one."""
        assert self.origin is not None
        first, second = self.first / self.count, self.second / self.count
        if not self.centred:
            return InputMoments(second, None)
        return InputMoments(second - torch.outer(first, first), self.origin + first)


@contextmanager
def _gathering(sums: dict[str, _Sums]) -> Iterator[None]:
    """While open, every layer adds its inputs to its sums."""
    handles = [found.module.register_forward_pre_hook(found.add) for found in sums.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_covered(model: nn.Module, key: str) -> bool:
    prefix, _, name = key.rpartition(".")
    module = model.get_submodule(prefix)
    if name != "weight":
        return False
    if isinstance(module, nn.Linear):
        return module.in_features <= MAX_ROW
    return isinstance(module, _Convolution) and module.groups == 1 and module.weight[0].numel() <= MAX_ROW


def _rows(module: nn.Module, inputs: Tensor) -> Tensor:
    """What the rows of the weight are multiplied with, (count, row)."""
    if isinstance(module, _Convolution):
        return _patches(module, inputs)
    return inputs.reshape(-1, inputs.shape[-1])


def _patches(module: _Convolution, inputs: Tensor) -> Tensor:
    """The patches that a convolution sees at some of its output positions, (count, channels * kernel)."""
    axes = len(module.kernel_size)
    patches = functional.pad(inputs, module._reversed_padding_repeated_twice)
    if patches.dim() == axes + 1:
        patches = patches.unsqueeze(0)  # a single sample without a batch axis
    for axis in range(axes):
        size, stride, dilation = module.kernel_size[axis], module.stride[axis], module.dilation[axis]
        patches = patches.unfold(2 + axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
        skip = -(-patches.shape[2 + axis] // _POSITIONS)
        thinned = torch.arange(skip // 2, patches.shape[2 + axis], skip, device=patches.device)
        patches = patches.index_select(2 + axis, thinned)
    # (batch, channels, *positions, *kernel) -> (batch, *positions, channels, *kernel) -> (count, row)
    return patches.movedim(1, 1 + axes).reshape(-1, module.weight[0].numel())

"""The second moment of a layer's inputs: which directions of its weight matter to its outputs."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adtn.decoding import decoded_once

MAX_ROW = 4608
"""Longest row of a weight for which the moment (row, row) is gathered: a 3x3 convolution of 512 channels."""
MAX_SAMPLES = 2000
"""Samples looked at; more change a moment little."""
_BATCH = 100
_POSITIONS = 8  # of a convolution's output along each axis: neighbouring ones see nearly the same inputs

_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


def input_moments(model: nn.Module, inputs: Tensor, keys: Collection[str]) -> dict[str, Tensor]:
    """Run samples through a model and gather E[x x^T] of the inputs of some of its layers, for `fit`.

    Linear layers and convolutions (not transposed, one group) are covered; x is what one row of the weight, flattened,
    is multiplied with. For other weights there is no entry, and a fit takes the plain norm.

    Args:
        model: Run in evaluation mode; not changed.
        inputs: (N, ...); the first 2,000 samples are used, so they should not be sorted.
        keys: Of the weights ("fc1.weight").

    Returns:
        Key to moment, (row, row) float32, on the model's device.
    """
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = dict.fromkeys(keys, 0)
    model.eval()
    try:
        with torch.no_grad(), decoded_once(), _gathering(model, keys, sums, counts):
            for batch in torch.split(inputs[:MAX_SAMPLES], _BATCH):
                model(batch.to(device))
    finally:
        for module, mode in modes:
            module.training = mode
    return {key: total / counts[key] for key, total in sums.items()}


@contextmanager
def _gathering(
    model: nn.Module, keys: Collection[str], sums: dict[str, Tensor], counts: dict[str, int]
) -> Iterator[None]:
    """While open, every covered layer adds the second moment of its inputs to `sums` and `counts`."""

    def hook_for(key: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            rows = _rows(module, arguments[0]).float()
            sums[key] = rows.T @ rows + sums.get(key, 0)
            counts[key] += len(rows)

        return hook

    handles = []
    for key in keys:
        prefix, _, name = key.rpartition(".")
        module = model.get_submodule(prefix)
        if name == "weight" and _is_covered(module):
            handles.append(module.register_forward_pre_hook(hook_for(key)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_covered(module: nn.Module) -> bool:
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

"""The mean and the second moment of a layer's inputs: which directions of its weight matter to its outputs."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from adtn.encoding import owner_of, parameter_of
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

    Where the layer has a bias of its own, an error of the weight in the direction of the mean input costs nothing: the
    bias takes it up (see `encode`). The fit then need not spend gates on it, and outputs vary about the mean as they
    did. A bias that another layer adds too, or that is to be encoded itself, cannot take it up.

    Args:
        second: E[(x - mean) (x - mean)^T] for a layer with a bias of its own, else E[x x^T]; (row, row).
        mean: E[x] for a layer with a bias of its own, else None; (row,).
    """

    second: Tensor
    mean: Tensor | None


def input_moments(model: nn.Module, inputs: Tensor, keys: Collection[str]) -> dict[str, InputMoments]:
    """Run samples through a model and gather the moments of the inputs of some of its layers, for `fit` and `encode`.

    Linear layers and convolutions (not transposed, one group) are covered. For other weights there is no entry, and a
    fit takes the plain norm.

    Args:
        model: Run in evaluation mode; not changed.
        inputs: (N, ...); not changed. The first 2,000 samples are used, so they should not be sorted.
        keys: Of all that is to be encoded ("fc1.weight").

    Returns:
        Moments by key, float32, on the model's device. Where further layers with biases of their own share a weight,
        theirs are there too, under the keys that the weight has in them.

    Raises:
        ShapeError: The model has no such parameter, or it is already encoded.
    """
    device = next(model.parameters()).device
    layers = _layers(model, keys)
    with evaluating(model), torch.no_grad(), _gathering(dict.fromkeys(layers.values())):
        for batch in torch.split(inputs[:MAX_SAMPLES], _BATCH):
            model(batch.to(device, copy=True))  # it may begin with an operation in place
    return {key: layer.moments() for key, layer in layers.items() if layer.count}


class _Sums:
    """Sums over the inputs of one layer.

    Where the mean is taken off, sums are of the distance from the first input seen: a large mean would cost the small
    differences about it their digits.

    Args:
        modules: That are the layer.
        centred: Whether the mean is taken off.
    """

    def __init__(self, modules: Sequence[nn.Module], centred: bool) -> None:
        self.modules = modules
        self.centred = centred
        self.count = 0
        self.origin: Tensor | None = None

    def add(self, module: nn.Module, positional: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        """A forward pre-hook."""
        inputs = next(iter((*positional, *named.values())))
        if not inputs.numel():
            return
        rows = _rows(module, inputs).float()
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
def _gathering(layers: Iterable[_Sums]) -> Iterator[None]:
    """While open, every layer adds its inputs to its sums."""
    handles = [
        module.register_forward_pre_hook(layer.add, with_kwargs=True) for layer in layers for module in layer.modules
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(model: nn.Module, keys: Collection[str]) -> dict[str, _Sums]:
    """The layers that are covered, by key: those of the keys, and others with biases of their own that share a weight.

    Modules that share weight and bias are one layer, used several times.
    """
    encoded = {id(parameter_of(model, key)) for key in keys}
    modules: dict[tuple[int, int], dict[str, nn.Module]] = {}
    for prefix, module in model.named_modules():
        if id(module._parameters.get("weight")) in encoded and _is_covered(module):
            modules.setdefault(_identity(module), {})[f"{prefix}.weight".removeprefix(".")] = module
    held = (parameter for module in model.modules() for parameter in module._parameters.values())
    uses = Counter(id(parameter) for parameter in held if parameter is not None)
    layers = {
        (weight, bias): _Sums(list(found.values()), bias not in encoded and uses[bias] == len(found))
        for (weight, bias), found in modules.items()
    }
    named = {key: _identity(owner_of(model, key)[0]) for key in keys if key.rpartition(".")[2] == "weight"}
    others = {next(iter(found)): layer for layer, found in modules.items() if layers[layer].centred}
    others = {key: layer for key, layer in others.items() if layer not in named.values()}
    return {key: layers[layer] for key, layer in (named | others).items() if layer in layers}


def _identity(module: nn.Module) -> tuple[int, int]:
    """Of a layer's weight and bias."""
    return id(module._parameters.get("weight")), id(module._parameters.get("bias"))


def _is_covered(module: nn.Module) -> bool:
    if not isinstance(module, nn.Linear | _Convolution) or getattr(module, "groups", 1) != 1:
        return False
    return module.weight.shape[1:].numel() <= MAX_ROW


def _rows(module: nn.Module, inputs: Tensor) -> Tensor:
    """What the rows of the weight are multiplied with, (count, row)."""
    if isinstance(module, _Convolution):
        return _patches(module, inputs)
    return inputs.reshape(-1, inputs.shape[-1])


def _patches(module: _Convolution, inputs: Tensor) -> Tensor:
    """The patches that a convolution sees at some of its output positions, (count, channels * kernel)."""
    axes = len(module.kernel_size)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    patches = functional.pad(inputs, module._reversed_padding_repeated_twice, mode)
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

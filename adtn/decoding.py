"""Decode every weight once while a block of code runs: equal ones together, and with one backward pass for all uses."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import Tensor, nn

from adtn.batches import batches
from adtn.blocks import HandedOut, handed_out, handing_out
from adtn.errors import BlockEnded
from adtn.module import ADTN, contracted, contracted_vjp

BATCH_ENTRIES = 2**24
"""Most entries that are decoded together: the gradient of a batch takes several times its memory (see `contract`)."""


@contextmanager
def decoded_once(model: nn.Module) -> Iterator[None]:
    """Within the block, every encoded weight of the model is decoded once, and so is its gradient.

    Weights are decoded on entry, those of equal structure as one batch. What the model reads inside are leaf tensors:
    each backward pass inside adds up gradients of the *weights*, however many micro-batches there are. When the block
    ends, one backward pass brings them to the gates: it adds to `gates.grad` and runs hooks as autograd does. If the
    block raises, the gates get nothing.

    Example:
        >>> optimiser.zero_grad()
        >>> with decoded_once(model):
        ...     for inputs, labels in micro_batches:
        ...         loss = criterion(model(inputs), labels) / len(micro_batches)
        ...         loss.backward()
        >>> optimiser.step()

    All backward passes belong inside the block, and all that reads `gates.grad` after it: clipping, unscaling,
    the optimiser's step. A backward pass that comes too late raises `BlockEnded`; `torch.autograd.grad` with respect to
    gates works outside of blocks. The gates of a weight that was not used keep the gradient they had.

    Under `torch.no_grad`, and for frozen gates, there is nothing to bring back: the block decodes what is not decoded
    yet, and the ADTNs keep it. Evaluation needs no block, but inside one the gates are not compared at each use, which
    on a GPU waits for the device.

    Gates that are changed inside are seen when the block ends. A block holds for the thread that opened it. A nested
    one decodes only what the outer ones do not have. Gradients of half-precision weights add up in the precision of
    the gates.

    Args:
        model: Its encoded weights are decoded. Others are decoded at each use, as outside.

    Raises:
        BlockEnded: A backward pass reaches a weight after the block.
    """
    adtns = [module for module in model.modules() if isinstance(module, ADTN)]
    missing = [adtn for adtn in adtns if handed_out(adtn, adtn.gates, adtn.is_differentiable()) is None]
    decoded = [_Batch(group) for group in _groups(adtn for adtn in missing if adtn.is_differentiable())]
    weights: dict[nn.Module, HandedOut] = {adtn: given for batch in decoded for adtn, given in batch.weights.items()}
    weights.update(_kept([adtn for adtn in missing if not adtn.is_differentiable()]))
    try:
        with handing_out(weights):
            yield
        found = [pair for batch in decoded for pair in batch.gradients()]
        if found:
            torch.autograd.backward([numbers for numbers, _ in found], [grad for _, grad in found])
    finally:
        for batch in decoded:
            batch.close()


class _Batch:
    """ADTNs of one structure whose weights are decoded together, and lead their gradients back together."""

    def __init__(self, adtns: list[ADTN]) -> None:
        self._numbers = [adtn.numbers() for adtn in adtns]
        decoded, self._vjp = contracted_vjp(_stack(self._numbers), adtns[0].structure, adtns[0].shape.numel())
        self._leaves = [row.view(adtn.shape).requires_grad_() for adtn, row in zip(adtns, decoded, strict=True)]
        # A weight of half precision is a copy of its leaf, where gradients add up in the precision of the gates.
        self.weights = {
            adtn: HandedOut(adtn.gates, leaf.to(adtn.dtype)) for adtn, leaf in zip(adtns, self._leaves, strict=True)
        }

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """The numbers of each ADTN whose weight has got a gradient, and theirs; asked for once."""
        used = [i for i, leaf in enumerate(self._leaves) if leaf.grad is not None]
        if not used:
            return []
        rows = [_dense(leaf).reshape(-1) for leaf in self._leaves]
        for leaf in self._leaves:
            leaf.grad = None
        grad = torch.stack(rows) if len(rows) > 1 else rows[0].unsqueeze(0)
        del rows  # the contraction needs room
        found = self._vjp(grad)
        return [(self._numbers[i], found[i]) for i in used]

    def close(self) -> None:
        """Refuse gradients from now on: nobody would bring them to the gates."""
        for leaf in self._leaves:
            leaf.register_hook(_refuse)


def _dense(leaf: Tensor) -> Tensor:
    """The gradient that a weight has got: zeros for none, and that of a sparse embedding as an ordinary tensor."""
    if leaf.grad is None:
        return torch.zeros_like(leaf)
    return leaf.grad.to_dense() if leaf.grad.is_sparse else leaf.grad


def _refuse(_grad: Tensor) -> NoReturn:
    raise BlockEnded("expected every backward pass inside of its decoded_once block, got one after the block had ended")


def _kept(adtns: list[ADTN]) -> dict[nn.Module, HandedOut]:
    """The weights of ADTNs that need no gradient; what they do not keep yet is decoded."""
    weights = {adtn: adtn.kept.get(adtn.numbers(), adtn.dtype) for adtn in adtns}
    with torch.inference_mode(False), torch.no_grad():  # as when a single one is decoded
        for group in _groups(adtn for adtn, weight in weights.items() if weight is None):
            numbers = [adtn.numbers() for adtn in group]
            for adtn, own, row in zip(group, numbers, _contracted(group, _stack(numbers)), strict=True):
                weights[adtn] = adtn.kept.put(own, row.view(adtn.shape).to(adtn.dtype))
    return {adtn: HandedOut(adtn.gates, weight) for adtn, weight in weights.items() if weight is not None}


def _groups(adtns: Iterable[ADTN]) -> Iterator[list[ADTN]]:
    """Those that are decoded together."""
    return batches(
        adtns,
        lambda adtn: adtn.structure,
        lambda adtn: (adtn.shape.numel(), adtn.gates.dtype, adtn.gates.device),
        BATCH_ENTRIES,
    )


def _stack(numbers: list[Tensor]) -> Tensor:
    """Of several ADTNs, (adtns, structure.parameters)."""
    return torch.stack([own.detach() for own in numbers])


def _contracted(adtns: list[ADTN], gates: Tensor) -> Tensor:
    """Their weights, flat, (adtns, entries)."""
    return contracted(gates, adtns[0].structure, adtns[0].shape.numel())

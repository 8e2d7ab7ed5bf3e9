"""Decoding by any of the methods, and its gradient."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bench.contraction.networks import Inputs, Network
from bench.contraction.ours import ours
from bench.contraction.peers import one_expression, quimb_circuit, tensordot

ApplyLayer = Callable[..., Tensor]


def layer_by_layer(apply: ApplyLayer, network: Network, inputs: Inputs) -> Tensor:
    """Apply the TN layers of a network by one of the peers, with ReLU between them."""
    state = inputs.state
    for m, (layer, gates) in enumerate(zip(network.layers, network.split(inputs.gates), strict=True)):
        if m:
            assert state is not None
            state = torch.relu(state)
        state = apply(state, gates, layer)
    assert state is not None
    return state


METHODS: dict[str, Callable[[Network, Inputs], Tensor]] = {
    "tensordot": partial(layer_by_layer, tensordot),
    "opt_einsum": partial(layer_by_layer, one_expression),
    "quimb": partial(layer_by_layer, quimb_circuit),
    "ours": ours,
}
"""Each takes a network and its inputs and returns the flat tensor (2**sites,)."""


@torch.no_grad()
def forward(method: str, network: Network, inputs: Inputs) -> Tensor:
    """Decode, for inference."""
    return METHODS[method](network, inputs)


def forward_backward(method: str, network: Network, inputs: Inputs, direction: Tensor) -> dict[str, Tensor]:
    """Decode, and take the gradients of <result, direction>.

    Returns:
        "result", "gates" (the gradient with respect to them) and, where the network has one, "state".
    """
    result = METHODS[method](network, inputs)
    gradients = torch.autograd.grad(result, inputs.leaves, direction)
    return {"result": result.detach(), **dict(zip(("gates", "state"), gradients, strict=False))}

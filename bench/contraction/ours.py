"""This project's contraction, behind the same two calls as its peers: on the product state, and on a given tensor."""

from torch import Tensor

import adtn
from adtn.contraction import apply_tn_layers
from bench.contraction.networks import Inputs, Network


def ours(network: Network, inputs: Inputs) -> Tensor:
    """The flat result of a network."""
    if inputs.state is not None:
        return ours_inner(inputs.state, inputs.gates)
    return adtn.contract(inputs.gates, adtn.brick_wall(network.sites, network.depth))


def ours_inner(state: Tensor, gates: Tensor) -> Tensor:
    """One TN layer of 2-site gates applied to a given tensor.

    Args:
        state: Flat, 2**sites entries.
        gates: The numbers of its gates, flat.
    """
    structure = adtn.brick_wall(state.numel().bit_length() - 1, 1)
    return apply_tn_layers(state, gates, structure.dims, structure.tn_layers)

"""Whether a method's tensor and gradients are right, before any of its times counts.

The gradients are those of ||T||^2 / 2, so the direction is T itself. A gradient along a random direction would be a sum
of terms of either sign, and one entry that rounding moves across the kink of ReLU would show in it.
"""

from pathlib import Path

import opt_einsum
import torch
from torch import Tensor

from bench.contraction.networks import Inputs, Network
from bench.contraction.peers import full_gate

TOLERANCE = 1e-5
"""Largest relative difference."""
SUMMED_TOLERANCE = 0.5
"""The same, of a gradient of gates that is one float32 sum over a large tensor, as the peers have it: torch's matrix
product adds the terms one after the other, and loses 3 % of 2^24 of them. So this only finds a gradient that is not a
sum of the right terms; the table shows how much was lost."""
EXACT_SITES = 20
"""Largest network for which the float64 reference is computed; larger ones are compared with each other."""
STRICT_SITES = 16
"""Largest network for which `TOLERANCE` holds without exception."""
_CHUNK = 2**22

Values = dict[str, Tensor]
"""The tensor ("result") and the gradients with respect to "gates" and "state", flat."""


class WrongResult(Exception):
    """A method disagrees with the reference, or with itself."""


def check(network: Network, inputs: Inputs, values: Values, stored: Path, careful: bool) -> dict[str, float]:
    """Compare with the best reference there is.

    Args:
        network: What was decoded.
        inputs: From these.
        values: What a method returned.
        stored: File of the first checked method's values for a large network; written if there is none.
        careful: Whether the method sums with care, so that `TOLERANCE` holds for its gates' gradient at any size.

    Returns:
        Relative differences: "result", "state", "gates" from the reference; and "homogeneity".

    Raises:
        WrongResult: One is too large.
    """
    found: dict[str, float] = {}
    is_exact = network.sites <= EXACT_SITES
    if is_exact or stored.exists():
        reference = exact(network, inputs) if is_exact else torch.load(stored, mmap=True)
        found = {name: difference(values[name], reference[name]) for name in values if name in reference}
    else:
        torch.save(values, stored)
    if "gates" in values:
        found["homogeneity"] = inhomogeneity(network, inputs, values)
    limits = dict.fromkeys(found, TOLERANCE)
    if network.sites > STRICT_SITES:
        loose = {"gates": careful and is_exact, "homogeneity": careful}
        limits.update({name: SUMMED_TOLERANCE for name, strict in loose.items() if name in found and not strict})
    wrong = {name: value for name, value in found.items() if not value <= limits[name]}
    if wrong:
        raise WrongResult(f"expected relative differences of at most {limits}, got {wrong}")
    return found


def exact(network: Network, inputs: Inputs) -> Values:
    """The reference: in float64, every gate in full on the full tensor, one after the other by opt_einsum."""
    leaves = {"gates": inputs.gates.detach().cpu().double().requires_grad_()}
    if inputs.state is not None:
        leaves["state"] = inputs.state.detach().cpu().double().requires_grad_()
        tensor = leaves["state"].view((2,) * network.sites)
    else:
        tensor = torch.eye(1, network.entries, dtype=torch.float64).view((2,) * network.sites)
    axes = list(range(network.sites))
    for m, (layer, gates) in enumerate(zip(network.layers, network.split(leaves["gates"]), strict=True)):
        if m:
            tensor = tensor.clamp(min=0)
        for gate, place in zip(gates, layer.gates, strict=True):
            into = [place.first, place.first + 1]
            out = [network.sites, network.sites + 1]
            after = [*axes[: place.first], *out, *axes[place.first + 2 :]]
            tensor = opt_einsum.contract(full_gate(gate), out + into, tensor, axes, after)
    result = tensor.reshape(-1)
    gradients = torch.autograd.grad(result, list(leaves.values()), result.detach())
    return {"result": result.detach(), **dict(zip(leaves, gradients, strict=True))}


def inhomogeneity(network: Network, inputs: Inputs, values: Values) -> float:
    """How far the gradients are from Euler's identity; needs no reference, so it holds for any size.

    T is linear in each gate up to ReLU, and relu(c x) = c relu(x) for c > 0. So <gate, gradient> = ||T||^2 for each
    gate, and for the given tensor.
    """
    expected = _dot(values["result"], values["result"])
    products = [
        float((gate.detach().double() * gradient.double()).sum())
        for gates, gradients in zip(network.split(inputs.gates), network.split(values["gates"]), strict=True)
        for gate, gradient in zip(gates, gradients, strict=True)
    ]
    if inputs.state is not None:
        products.append(_dot(inputs.state.detach(), values["state"]))
    return max(abs(product / expected - 1) for product in products)


def difference(value: Tensor, reference: Tensor) -> float:
    """||value - reference|| / ||reference||, in float64."""
    error = norm = 0.0
    for a, b in zip(torch.split(value, _CHUNK), torch.split(reference, _CHUNK), strict=True):
        b = b.double()
        error += float((a.cpu().double() - b).square().sum())
        norm += float(b.square().sum())
    return float((error / norm) ** 0.5)


def _dot(a: Tensor, b: Tensor) -> float:
    """<a, b>, in float64."""
    parts = zip(torch.split(a, _CHUNK), torch.split(b, _CHUNK), strict=True)
    return sum(float(x.double() @ y.double()) for x, y in parts)

"""The fit, the same for every method: the layer's outputs, about their mean, from whatever start the form has."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from adtn.fitting import Distance
from adtn.moments import InputMoments
from adtn.schedules import cosine
from bench.accuracy.factors import Factors, Form

STEPS = 150
LEARNING_RATE = 0.02


class Fitted(NamedTuple):
    """Factors, and the squared error of the layer's outputs relative to their own mean square."""

    factors: Factors
    error: float


def fit(form: Form, weight: Tensor, moment: Tensor, seed: int) -> Fitted:
    """Minimise tr((W - T) C (W - T)^T) over the factors of T.

    Adam on the error of the best multiple of T, as `adtn.fit` has it. The best step's factors are kept, so that a start
    which is a minimum is not spoilt.

    Args:
        form: Of T.
        weight: W, not changed.
        moment: C, the second moment of the layer's inputs about their mean.
        seed: Of what is random in the start.
    """
    distance = Distance(weight.detach(), moment)
    factors = form.start(weight.detach(), moment, seed)
    factors.scale(float(weight.detach().norm() / factors().detach().norm()))
    parameters = list(factors.parameters())
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    best, kept = math.inf, [parameter.detach().clone() for parameter in parameters]
    for step in range(STEPS + 1):
        error = distance.of(factors())
        if float(error.detach()) < best:
            best, kept = float(error.detach()), [parameter.detach().clone() for parameter in parameters]
        if step < STEPS:
            optimiser.zero_grad()
            torch.autograd.backward(error)
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * cosine(step, STEPS)
            optimiser.step()
    with torch.no_grad():
        for parameter, numbers in zip(parameters, kept, strict=True):
            parameter.copy_(numbers)
        factors.scale(distance.best_scale(factors()))
    return Fitted(factors, best)


@torch.no_grad()
def place(model: nn.Module, layer: str, factors: Factors, moments: InputMoments) -> None:
    """Put factors in the place of a layer's weight, and let the bias keep the mean outputs as they are."""
    module = model.get_submodule(layer)
    weight, bias = module.get_parameter("weight"), module.get_parameter("bias")
    assert moments.mean is not None
    bias.add_((weight - factors()).flatten(1) @ moments.mean)
    parametrize.register_parametrization(module, "weight", factors, unsafe=True)

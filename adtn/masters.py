"""Master copies: parameters of half precision are trained in single precision."""

import torch
from torch import nn
from torch.optim import Optimizer

from adtn.start import is_half


class MasterCopies:
    """The float32 copies that an optimiser steps in place of parameters of half precision.

    In float16 the squares of small gradients are 0, and so is the epsilon that Adam adds to their root: its steps are
    not finite. In either half precision steps below the rounding are lost, and a copy adds them up.

    Source: Micikevicius et al., arXiv:1710.03740; the loss is not scaled here.
    """

    def __init__(self) -> None:
        self._copies: dict[nn.Parameter, nn.Parameter] = {}

    def of(self, parameter: nn.Parameter) -> nn.Parameter:
        """What an optimiser is given for a parameter: a copy, or of other precision the parameter itself."""
        if not is_half(parameter.dtype):
            return parameter
        self._copies[parameter] = nn.Parameter(parameter.detach().float())
        return self._copies[parameter]

    def follow(self, optimiser: Optimizer) -> None:
        """From now on each of its steps takes the gradients of the parameters, and they follow their copies."""
        if self._copies:
            optimiser.register_step_pre_hook(lambda *_: self._take_gradients())
            optimiser.register_step_post_hook(lambda *_: self._give_values())

    def _take_gradients(self) -> None:
        for parameter, copy in self._copies.items():
            copy.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None  # the optimiser's own `zero_grad` does not know it

    @torch.no_grad()
    def _give_values(self) -> None:
        for parameter, copy in self._copies.items():
            parameter.copy_(copy)

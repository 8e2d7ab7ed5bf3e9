"""Counts how often weights are decoded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

from adtn import module


@dataclass
class Contractions:
    """How many contractions ran, and how many backward passes went through them."""

    forward: int = 0
    backward: int = 0

    def taken(self) -> tuple[int, int]:
        """Both, since the last call."""
        counts = self.forward, self.backward
        self.forward = self.backward = 0
        return counts


def count_contractions(monkeypatch: pytest.MonkeyPatch) -> Contractions:
    """Count from now on, until the test ends."""
    counts = Contractions()
    contract, contract_vjp = module.contract, module.contract_vjp

    def came_back(_grad: Tensor) -> None:
        counts.backward += 1

    def counted(*args: object, **options: object) -> Tensor:
        counts.forward += 1
        result = contract(*args, **options)
        if result.requires_grad:
            result.register_hook(came_back)
        return result

    def counted_vjp(*args: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        counts.forward += 1
        result, vjp = contract_vjp(*args)

        def counted_back(grad: Tensor) -> Tensor:
            counts.backward += 1
            return vjp(grad)

        return result, counted_back

    monkeypatch.setattr(module, "contract", counted)
    monkeypatch.setattr(module, "contract_vjp", counted_vjp)
    return counts

"""Counts how often weights are decoded."""

from dataclasses import dataclass

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
    contract = module.contract

    def came_back(_grad: Tensor) -> None:
        counts.backward += 1

    def counted(*args: object, **options: object) -> Tensor:
        counts.forward += 1
        result = contract(*args, **options)
        if result.requires_grad:
            result.register_hook(came_back)
        return result

    monkeypatch.setattr(module, "contract", counted)
    return counts

"""What building a network by name returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """A network built from a checkpoint.

    Attributes:
        name: The name it is known by.
        model: In float32, with the checkpoint's weights, in training mode.
        input_shape: Of one sample as the model takes it.
        details: What was read off the shapes: "classes", "input", widths, "padding"; "candidates" where the
            weights leave something open; "notes" on what was converted or chosen.
    """

    name: str
    model: nn.Module
    input_shape: tuple[int, ...]
    details: dict[str, Any]

    @property
    def classes(self) -> int:
        """Number of classes that the model tells apart."""
        return int(self.details["classes"])


def load_float32(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load a state dict whose keys and shapes are the model's.

    Returns:
        Notes: which other dtypes were converted.
    """
    model.load_state_dict(state)  # copies into the model's own float32 tensors
    floating = {str(tensor.dtype) for tensor in state.values() if tensor.is_floating_point()}
    others = sorted(floating - {str(torch.float32)})
    return [f"computed in float32, the checkpoint holds {', '.join(others)}"] if others else []

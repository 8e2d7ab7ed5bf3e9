"""A two-layer LSTM in both directions over characters: the language of a text, one of 20."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.published import texts
from bench.published.model import Published
from bench.published.packages import Package, module_of
from bench.published.samples import Samples

WEIGHTS = "LanguageIdentifier/LID_mixed_model.pkl"


def make(folder: Path) -> nn.Module:
    """Indices of characters (batch, length) to logits (batch, languages); alphabet and sizes are the checkpoint's."""
    given = _checkpoint(folder)
    made = module_of(folder, "LanguageIdentifier.LSTMLID").LSTMLIDModel
    sizes = given["embedding_dim"], given["hidden_dim"], given["layers"]
    model: nn.Module = made(given["char_to_idx"], given["lang_to_idx"], *sizes)
    return model


def state(folder: Path) -> Mapping[str, Tensor]:
    """The state_dict is an entry of the checkpoint."""
    found: Mapping[str, Tensor] = _checkpoint(folder)["model_state_dict"]
    return found


def _checkpoint(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / WEIGHTS, weights_only=True, map_location="cpu")
    return found


def samples(model: nn.Module) -> Samples:
    """Text as the model's own code numbers its characters, unknown ones included."""
    return texts.samples(model.lang_to_idx, model.safe_char_to_idx)  # type: ignore[arg-type]


IDENTIFIER = Published(
    "identifier",
    "LanguageIdentifier, 20 languages; LSTM",
    Package("LanguageIdentifier", "1.1.1", "788613b3dd3ef9533ad746ae34fe0ca8285316bc9b2a7093397da22c0d74481f", "MIT"),
    WEIGHTS,
    make,
    state,
    samples,
    torch.int64,
    settings={"compression": {"target": {"ratio": 5}}, "fine_tune": {"epochs": 6, "batch_size": 64}},
    settings_alone={"compression": {"target": {"ratio": 2}}},
)

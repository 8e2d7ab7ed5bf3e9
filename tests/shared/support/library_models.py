"""Small models of libraries, and torchvision where its compiled operators do not fit the build of torch."""

from functools import lru_cache
from importlib import import_module
from typing import Any

import torch

TEXT = {
    "vocab_size": 40,
    "dim": 32,
    "hidden_dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 16,
    "model_type": "distilbert",
}
"""A config.json of DistilBERT."""

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")


@lru_cache(maxsize=1)
def torchvision() -> Any:
    """The package. Operators that it misses when it is imported are declared: no classifier uses them."""
    try:
        return import_module("torchvision")
    except RuntimeError:
        for name in ("nms", "qnms"):
            _OPERATORS.define(name + _NMS)
        return import_module("torchvision")


def distilbert(classes: int, **changes: Any) -> Any:
    """A tiny DistilBERT with random weights, made by the library itself; in evaluation mode."""
    import transformers

    torch.manual_seed(0)
    settings = {key: value for key, value in TEXT.items() if key != "model_type"} | changes
    config = transformers.DistilBertConfig(num_labels=classes, attn_implementation="eager", **settings)
    return transformers.DistilBertForSequenceClassification(config).eval()

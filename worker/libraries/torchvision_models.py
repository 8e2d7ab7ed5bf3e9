"""torchvision's classifiers of images by name: "torchvision/resnet18"."""

import inspect
import warnings
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn

from worker.architectures.architecture import Architecture
from worker.libraries.importing import imported, unknown
from worker.libraries.loading import classes_of, loaded
from worker.libraries.samples import as_images, size_refused
from worker.libraries.scores import answer_with_scores

CHANNELS = 3
SIDE = 224
"""Of images, where there are none to tell it."""
TOLD = {"num_classes": (7, 11)}
"""Settings that shapes tell, and values that are tried to find those shapes."""
AUXILIARY = ("AuxLogits.", "aux1.")
"""What the keys of heads begin with that only training uses."""


def build(model: str, state: Mapping[str, Tensor], input_shape: tuple[int, ...] | None) -> Architecture:
    """Build a model of torchvision in the sizes of a state dict, and load it.

    Args:
        model: As `torchvision.models.list_models` has it.
        state: The whole state dict.
        input_shape: Of one sample; None if there are no data.

    Raises:
        ProblemError: See `worker.libraries.build`.
    """
    name = f"torchvision/{model}"
    models = imported("torchvision").models
    known = models.list_models(module=models)
    if model not in known:
        raise unknown(name, known)
    shape = as_images(name, input_shape, (CHANNELS, SIDE, SIDE))
    options = _options(models.get_model_builder(model), state, shape)

    def make(**sizes: int) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on how weights start, which are loaded
            made: nn.Module = models.get_model(model, weights=None, **options, **sizes)
        return made

    network, sizes, notes = loaded(name, make, state, TOLD, partial(size_refused, name, shape))
    if options.get("aux_logits"):
        answer_with_scores(network)
    details = {
        "library": "torchvision",
        "version": version("torchvision"),
        "classes": classes_of(name, network, shape),
        "input": list(shape),
        "options": {**sizes, **options},
        "notes": notes,
    }
    return Architecture(name, network, shape, details)


def _options(builder: Any, state: Mapping[str, Tensor], shape: tuple[int, int, int]) -> dict[str, Any]:
    """Settings that follow from keys and samples, of those that a model has."""
    network = inspect.signature(builder).return_annotation
    accepted = set(inspect.signature(builder).parameters) | set(inspect.signature(network).parameters)
    options: dict[str, Any] = {}
    if "image_size" in accepted:
        options["image_size"] = shape[-1]
    if "input_size" in accepted:
        options["input_size"] = shape[1:]
    if "aux_logits" in accepted:
        options["aux_logits"] = any(key.startswith(AUXILIARY) for key in state)
    if "init_weights" in accepted and "aux_logits" in accepted:
        options["init_weights"] = False
    return options

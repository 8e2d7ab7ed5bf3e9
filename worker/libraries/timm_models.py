"""timm's classifiers of images by name: "timm/resnet18"."""

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn

from worker.architectures.architecture import Architecture
from worker.libraries.importing import imported, unknown
from worker.libraries.loading import classes_of, loaded
from worker.libraries.samples import as_images, size_refused

TOLD = {"num_classes": (7, 11), "in_chans": (3, 5)}
"""Settings that shapes tell, and values that are tried to find those shapes."""


def build(model: str, state: Mapping[str, Tensor], input_shape: tuple[int, ...] | None) -> Architecture:
    """Build a model of timm in the sizes of a state dict, and load it.

    Args:
        model: As `timm.list_models` has it: no tag of pretrained weights, no place on a disk or a hub.
        state: The whole state dict.
        input_shape: Of one sample; None if there are no data.

    Raises:
        ProblemError: See `worker.libraries.build`.
    """
    name = f"timm/{model}"
    timm = imported("timm")
    known = timm.list_models()
    if model not in known:
        raise unknown(name, known)
    usual = timm.get_pretrained_cfg(model)
    shape = as_images(name, input_shape, usual.input_size)
    options: dict[str, Any] = {"img_size": shape[1:]} if usual.fixed_input_size else {}

    def make(**sizes: int) -> nn.Module:
        made: nn.Module = timm.create_model(model, pretrained=False, **options, **sizes)
        return made

    network, sizes, notes = loaded(name, make, state, TOLD, partial(size_refused, name, shape))
    if input_shape is None:
        shape = (sizes.get("in_chans", shape[0]), *shape[1:])
    details = {
        "library": "timm",
        "version": version("timm"),
        "classes": classes_of(name, network, shape),
        "input": list(shape),
        "options": {**sizes, **options},
        "notes": notes,
    }
    return Architecture(name, network, shape, details)

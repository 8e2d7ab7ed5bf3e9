"""Networks by the names that libraries of models give them: "timm/resnet18", with the weights of a checkpoint.

The libraries are optional, and imported only when a job names one of their models. Nothing is downloaded, and no code
is run but that of the installed packages.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from jobs.catalogue import split_name
from jobs.problems import ProblemError
from worker.architectures.architecture import Architecture
from worker.libraries import timm_models, torchvision_models, transformers_models

__all__ = ["build"]

_BUILDERS: dict[str, Callable[[str, Mapping[str, Tensor], tuple[int, ...] | None], Architecture]] = {
    "torchvision": torchvision_models.build,
    "timm": timm_models.build,
}


def build(
    name: str,
    state: Mapping[str, Tensor],
    input_shape: tuple[int, ...] | None,
    config: Mapping[str, Any] | None = None,
) -> Architecture:
    """Build a library's model in the sizes of a state dict, and load it.

    Args:
        name: "LIBRARY/NAME".
        state: The whole state dict. Half and double precision are loaded as float32.
        input_shape: Of one sample; None if there are no data, and the library's usual size is taken.
        config: Of a model of transformers.

    Raises:
        ProblemError: `unknown_architecture`; `architecture_unavailable` if the package is not here or not importable;
            `architecture_config_invalid`; `checkpoint_mismatch` with a fault a key; `dataset_mismatch`.
    """
    found = split_name(name)
    if found is None:
        raise ProblemError("unknown_architecture", f"expected LIBRARY/NAME, got {name[:80]!r}")
    library, model = found
    if library == "transformers":
        return transformers_models.build(model, state, input_shape, config or {})
    if config is not None:
        raise ProblemError("architecture_config_invalid", f"{name}: expected no config: {library} has none for a model")
    return _BUILDERS[library](model, state, input_shape)

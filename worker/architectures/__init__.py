"""Networks known by name: their widths, kernels, padding and input size are read off the checkpoint's shapes."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from jobs.problems import ProblemError
from worker.architectures import fc2, lenet5, sequential
from worker.architectures.architecture import Architecture
from worker.architectures.networks import NETWORKS
from worker.architectures.new import create

__all__ = ["ARCHITECTURES", "Architecture", "build", "create"]

_BUILDERS: dict[str, Callable[[Mapping[str, Tensor], tuple[int, ...] | None], Architecture]] = {
    "fc2": fc2.build,
    "lenet5": lenet5.build,
    **{network.name: partial(sequential.build, network) for network in NETWORKS},
}
ARCHITECTURES = tuple(_BUILDERS)


def build(name: str, state: Mapping[str, Tensor], input_shape: tuple[int, ...] | None) -> Architecture:
    """Build a network in the sizes that a state dict has, and load it.

    Args:
        name: One of `ARCHITECTURES`.
        state: The whole state dict of the network. Half and double precision are loaded as float32.
        input_shape: Of one sample, (channels, height, width), (height, width) or any the network flattens; None if
            there are no data, and the input size is worked out from the weights.

    Raises:
        ProblemError: `unknown_architecture`; `checkpoint_mismatch` with a fault a key; `dataset_mismatch` if samples
            of this shape do not fit the weights.
    """
    builder = _BUILDERS.get(name)
    if builder is None:
        raise ProblemError("unknown_architecture", f"expected one of {', '.join(ARCHITECTURES)}, got {name[:80]!r}")
    return builder(state, input_shape)

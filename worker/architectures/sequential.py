"""`alexnet`, `zfnet`, `vgg16`: sequential convolutional networks, built in the sizes of a checkpoint.

Widths, kernels, batch norm and the form of the classifier are read off keys and shapes (layout.py). Strides, padding
and pools leave no trace in the weights, only the number of features does: it is the first form of networks.py for which
samples of the given size end up as that many features. A checkpoint of torchvision for ImageNet loads as it is.
"""

from collections.abc import Mapping

from torch import Tensor

from worker.architectures.architecture import Architecture, ambiguity_caveats, drop_counters, load_float32
from worker.architectures.candidates import candidates
from worker.architectures.convolutional import ConvNet
from worker.architectures.layout import Layout, closest
from worker.architectures.networks import Network
from worker.architectures.shapes import read_sizes


def build(network: Network, state: Mapping[str, Tensor], input_shape: tuple[int, ...] | None) -> Architecture:
    """Build a network in the sizes of a state dict.

    Args:
        network: Its description.
        state: Keys as in `Layout.pattern`; kernels are square.
        input_shape: Of one sample, (channels, height, width), or (height, width) for one channel; None if there are no
            data: then an input size is worked out from the number of features.

    Raises:
        ProblemError: `checkpoint_mismatch` or `dataset_mismatch`.
    """
    layout = closest(network, state.keys())
    counters = {key: names for key, names in layout.counters().items() if key in state}
    sizes = read_sizes(network.name, {**layout.pattern(), **counters}, state)
    fitting = candidates(layout, sizes, input_shape)
    model = ConvNet(layout, fitting[0].form, sizes)
    notes = load_float32(model, state)
    drop_counters(model, state)
    details = {
        **_described(layout, sizes),
        "input": list(fitting[0].input_shape),
        **fitting[0].form.described(),
        "candidates": [{**found.form.described(), "input": list(found.input_shape)} for found in fitting],
        "notes": notes,
    }
    return Architecture(network.name, model, fitting[0].input_shape, details, caveats=ambiguity_caveats(len(fitting)))


def _described(layout: Layout, sizes: Mapping[str, int]) -> dict[str, object]:
    """What was read off keys and shapes."""
    return {
        "classes": sizes["classes"],
        "channels": sizes["channels"],
        "widths": [sizes[f"conv{number}"] for number in layout.numbers],
        "kernels": [sizes[f"kernel{number}"] for number in layout.numbers],
        "features": sizes["features"],
        "hidden": [sizes[f"fc{number}"] for number in range(1, len(layout.linear))],
        "batch_norm": layout.batch_norm,
    }

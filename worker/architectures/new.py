"""Sequential convolutional networks made new, to be trained from scratch."""

from collections.abc import Mapping, Sequence

from torch import nn

from jobs.problems import ProblemError
from worker.architectures.candidates import candidates
from worker.architectures.convolutional import ConvNet
from worker.architectures.geometry import Form
from worker.architectures.layout import Layout, layouts
from worker.architectures.networks import NETWORKS, Network, forms


def create(
    name: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    widths: Sequence[int] | None = None,
    kernels: Sequence[int] | None = None,
    hidden: Sequence[int] | None = None,
    batch_norm: bool = False,
) -> nn.Module:
    """Make a network whose state dict reads back as the same function for the same input shape.

    Weights are drawn from torch's generator as in He et al., arXiv:1502.01852, biases are 0: from torch's own start a
    VGG-16 without batch norm does not learn.

    Args:
        name: "alexnet", "zfnet" or "vgg16".
        input_shape: Of one sample, (channels, height, width).
        classes: How many are told apart.
        widths: Channels of each convolution; None for the published.
        kernels: The side of each convolution's kernel; None for the published, or for those of small images where the
            published form has no room.
        hidden: Widths of the hidden linear layers, at most 2; None for the published.
        batch_norm: Whether batch norm follows each convolution.

    Returns:
        In training mode: (batch, channels, height, width) -> (batch, classes).

    Raises:
        ProblemError: `unknown_architecture`.
        ValueError: Not as many sizes as there are layers, or images that are too small.
    """
    network = _network(name)
    layout = _layout(network, len(network.hidden if hidden is None else hidden), batch_norm)
    if kernels is None:
        published = forms(network, network.kernels)[0]
        kernels = network.kernels if _has_room(published, input_shape) else network.small_kernels
    sizes = {
        "channels": input_shape[0],
        **_numbered(layout, "conv", network.widths if widths is None else widths),
        **_numbered(layout, "kernel", kernels),
        **{f"fc{number}": width for number, width in enumerate(network.hidden if hidden is None else hidden, 1)},
        "classes": classes,
    }
    form, features = _form(layout, sizes, input_shape)
    model = ConvNet(layout, form, {**sizes, "features": features})
    _start(model)
    return model


def _network(name: str) -> Network:
    """A network by its name."""
    for network in NETWORKS:
        if network.name == name:
            return network
    known = ", ".join(network.name for network in NETWORKS)
    raise ProblemError("unknown_architecture", f"expected one of {known}, got {name[:80]!r}")


def _layout(network: Network, hidden: int, batch_norm: bool) -> Layout:
    """The first arrangement with so many hidden linear layers."""
    for layout in layouts(network):
        if len(layout.linear) == hidden + 1 and layout.batch_norm is batch_norm:
            return layout
    raise ValueError(f"{network.name}: expected at most 2 hidden linear layers, got {hidden}")


def _numbered(layout: Layout, name: str, given: Sequence[int]) -> dict[str, int]:
    """One size for each convolution, by the names of `Layout.pattern`."""
    if len(given) != len(layout.numbers):
        raise ValueError(
            f"{layout.network.name} has {len(layout.numbers)} convolutions: expected as many {name} sizes, "
            f"got {len(given)}"
        )
    return {f"{name}{number}": size for number, size in zip(layout.numbers, given, strict=True)}


def _has_room(form: Form, input_shape: tuple[int, int, int]) -> bool:
    """Whether images are so large that the classifier's map has positions, each with numbers of its own."""
    height, width = input_shape[1:]
    return form.area(height, width) > 0 and not form.enlarges(height, width)


def _form(layout: Layout, sizes: Mapping[str, int], input_shape: tuple[int, int, int]) -> tuple[Form, int]:
    """The first form that has room and is taken when the weights are read, and the features it makes."""
    for form in forms(layout.network, [sizes[f"kernel{number}"] for number in layout.numbers]):
        if _has_room(form, input_shape):
            features = sizes[f"conv{layout.numbers[-1]}"] * form.area(*input_shape[1:])
            if candidates(layout, {**sizes, "features": features}, input_shape)[0].form == form:
                return form, features
    raise ValueError(f"{layout.network.name}: expected larger images, got {input_shape}")


def _start(model: nn.Module) -> None:
    """Draw weights with which activations keep their size from layer to layer."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

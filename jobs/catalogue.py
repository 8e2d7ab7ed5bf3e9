"""What is known by name: architectures and data sets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownArchitecture:
    """An architecture that a checkpoint can be loaded into.

    Attributes:
        name: As in a job's settings.
        description: What it is, in a sentence.
        layers: The names of its layers, in order.
        keys: The keys that a checkpoint must have.
        input: The shape of one input.
    """

    name: str
    description: str
    layers: tuple[str, ...]
    keys: tuple[str, ...]
    input: str


@dataclass(frozen=True)
class KnownDataset:
    """A data set that the worker has at hand."""

    name: str
    description: str
    shape: tuple[int, ...]
    classes: int
    train: int
    test: int


def _keys(*layers: str) -> tuple[str, ...]:
    return tuple(f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))


ARCHITECTURES = {
    known.name: known
    for known in (
        KnownArchitecture(
            "fc2",
            "Two linear layers with a ReLU between them; the input is flattened. Widths are read off the checkpoint.",
            ("fc1", "fc2"),
            _keys("fc1", "fc2"),
            "any shape with as many values as fc1 takes",
        ),
        KnownArchitecture(
            "lenet5",
            "Two convolutions, each with ReLU and max pooling, then three linear layers. Widths, padding and input "
            "size are read off the checkpoint.",
            ("conv1", "conv2", "fc1", "fc2", "fc3"),
            _keys("conv1", "conv2", "fc1", "fc2", "fc3"),
            "channels x height x width",
        ),
    )
}

DATASETS = {
    known.name: known
    for known in (
        KnownDataset(
            "digits", "Handwritten digits, 8 x 8 pixels in grey, from scikit-learn.", (1, 8, 8), 10, 1437, 360
        ),
    )
}

"""What is known by name: architectures and data sets."""

import re
from dataclasses import dataclass

EXPORTED_PROGRAM = "exported_program"
"""The format of checkpoints that carry their graph, so that no architecture has to be named."""
DATA_WITHOUT_NETWORK = (
    "a data set can be used only with an architecture, or with a checkpoint that carries its graph: this one holds "
    "weights alone"
)
PROGRAM_WITHOUT_NETWORK = "expected an architecture or a checkpoint that carries its graph, got weights"
PROGRAMS = ("onnx", "pt2")
"""Exports that hold the network, not only its weights."""

LIBRARIES = ("torchvision", "timm", "transformers")
"""Whose models are known as LIBRARY/NAME; workers may lack any of them."""
LIBRARY_MODEL = re.compile(rf"({'|'.join(LIBRARIES)})/([A-Za-z0-9][A-Za-z0-9._-]*)")

NUMBERED = re.compile(r"(.*?)\.?(\d*)")


@dataclass(frozen=True)
class KnownArchitecture:
    """An architecture that a checkpoint can be loaded into.

    Attributes:
        name: As in a job's settings.
        description: What it is, in a sentence.
        layers: The names of its layers, in order, in the usual form.
        keys: The keys that a checkpoint must have, in that form.
        input: The shape of one input.
        dropout: Whether there is usually dropout before or between its linear layers.
    """

    name: str
    description: str
    layers: tuple[str, ...]
    keys: tuple[str, ...]
    input: str
    dropout: bool = False

    def place(self, layer: str) -> tuple[int, int]:
        """Where the network uses a layer, to sort by; also in a form with other numbers, such as that with batch norm.

        Args:
            layer: Its name in a checkpoint: a part of the network ("features") and a number there.
        """
        part, number = _numbered(layer)
        parts = [_numbered(known)[0] for known in self.layers]
        return parts.index(part) if part in parts else len(parts), number


@dataclass(frozen=True)
class KnownDataset:
    """A data set that the worker has at hand."""

    name: str
    description: str
    shape: tuple[int, ...]
    classes: int
    train: int
    test: int


def split_name(architecture: str) -> tuple[str, str] | None:
    """The library and the name of "LIBRARY/NAME"; None for any other text."""
    found = LIBRARY_MODEL.fullmatch(architecture)
    return (found[1], found[2]) if found else None


def _numbered(layer: str) -> tuple[str, int]:
    """`features.10` as ("features", 10); without a number it is 0."""
    found = NUMBERED.fullmatch(layer)
    assert found is not None
    return found[1], int(found[2] or 0)


def _keys(*layers: str) -> tuple[str, ...]:
    return tuple(f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))


_IMAGES = "channels x height x width, 224 x 224 or smaller as the number of features says"
_READ = (
    "Widths, kernels, batch norm and the classifier are read off the checkpoint; strides and pools follow from the "
    "size of the images."
)
_FIVE = tuple(f"features.{position}" for position in (0, 3, 6, 8, 10))
_THIRTEEN = tuple(f"features.{position}" for position in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
_ALEXNET = (*_FIVE, "classifier.1", "classifier.4", "classifier.6")
_VGG16 = (*_THIRTEEN, "classifier.0", "classifier.3", "classifier.6")

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
        KnownArchitecture(
            "alexnet",
            f"Five convolutions and three linear layers, with torchvision's keys. {_READ}",
            _ALEXNET,
            _keys(*_ALEXNET),
            _IMAGES,
            dropout=True,
        ),
        KnownArchitecture(
            "zfnet",
            "AlexNet with a first kernel of 7 and the strides of Zeiler and Fergus (arXiv:1311.2901), with AlexNet's "
            f"keys. {_READ}",
            _ALEXNET,
            _keys(*_ALEXNET),
            _IMAGES,
            dropout=True,
        ),
        KnownArchitecture(
            "vgg16",
            f"Thirteen convolutions and three linear layers, with torchvision's keys of vgg16 or vgg16_bn. {_READ}",
            _VGG16,
            _keys(*_VGG16),
            _IMAGES,
            dropout=True,
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

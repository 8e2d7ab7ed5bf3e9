"""The rows: a network, data, the layers that are encoded, the numbers allowed, and what the paper says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Data = Literal["mnist", "mnist-32", "cifar-10", "cifar-100"]
CLASSES: dict[Data, int] = {"mnist": 10, "mnist-32": 10, "cifar-10": 10, "cifar-100": 100}
SHAPES: dict[Data, tuple[int, int, int]] = {
    "mnist": (1, 28, 28),
    "mnist-32": (1, 32, 32),
    "cifar-10": (3, 32, 32),
    "cifar-100": (3, 32, 32),
}
COUNTS: dict[Data, tuple[int, int]] = {
    "mnist": (60_000, 10_000),
    "mnist-32": (60_000, 10_000),
    "cifar-10": (50_000, 10_000),
    "cifar-100": (50_000, 10_000),
}
"""Of the published training and test images."""
TITLES: dict[Data, str] = {
    "mnist": "MNIST",
    "mnist-32": "MNIST padded to 32 x 32",
    "cifar-10": "CIFAR-10",
    "cifar-100": "CIFAR-100",
}
NETWORKS = {"fc2": "FC-2", "lenet5": "LeNet-5", "alexnet": "AlexNet", "zfnet": "ZFNet", "vgg16": "VGG-16"}


@dataclass(frozen=True)
class Training:
    """How a baseline is trained, and on how many images; the compressed model sees the same.

    Args:
        images: The first of the training images.
        epochs: Passes over them.
        batch: Images a step.
        rate: Learning rate at its peak.
    """

    images: int
    epochs: int
    batch: int = 128
    rate: float = 1e-3


@dataclass(frozen=True)
class Published:
    """What the paper says of a row.

    Args:
        original: Numbers of the layers before, in its words.
        parameters: Numbers of the ADTNs.
        before: Accuracy of the original network in percent.
        after: Of the compressed one.
        data: On which data.
    """

    original: str
    parameters: int
    before: float
    after: float
    data: Data

    @property
    def difference(self) -> float:
        """After less before, in points."""
        return round(self.after - self.before, 2)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        network: A name that the service knows.
        data: What it is trained and tested on.
        layers: What is encoded, as in the settings of a job.
        parameters: Numbers that all of it may have together.
        published: The paper's figures for these layers; None where its abstract has none.
        settings: Of the job, beside the target: fit and fine-tuning.
        variant: What tells it from another row of the same layers, in a word or two.
        structure: Of the ADTNs; the service's choice by default.
    """

    network: str
    data: Data
    layers: tuple[str | tuple[str, ...], ...]
    parameters: int
    published: Published | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    structure: str | Mapping[str, Any] = "auto"

    @property
    def name(self) -> str:
        """One word for the command line and the stored result: "vgg16-mnist-32-classifier.0-classifier.3"."""
        layers = ["+".join(item) if isinstance(item, tuple) else item for item in self.layers]
        variant = [self.variant.replace(" ", "-")] if self.variant else []
        return "-".join([self.network, self.data, *layers, *variant])

    @property
    def source(self) -> str:
        """Which of the user's data it takes: "mnist", "cifar-10" or "cifar-100"."""
        return "mnist" if self.data.startswith("mnist") else self.data

    @property
    def option(self) -> str:
        """How they are given on the command line."""
        return "--mnist FOLDER" if self.source == "mnist" else f"--{self.source} ARCHIVE"

    @property
    def title(self) -> str:
        """What stands in the table."""
        layers = [" and ".join(item) + " as one" if isinstance(item, tuple) else item for item in self.layers]
        variant = f"; {self.variant}" if self.variant else ""
        return f"{NETWORKS[self.network]}, {TITLES[self.data]}: {', '.join(layers)}{variant}"


LINEAR = {
    "alexnet": ("classifier.1", "classifier.4"),
    "zfnet": ("classifier.1", "classifier.4"),
    "vgg16": ("classifier.0", "classifier.3"),
}
CONVOLUTIONS = ("features.34", "features.37", "features.40")
"""The last three of a VGG-16 with batch norm: 512 to 512 channels each."""
TWO_LINEAR = Published("about 10^7", 424, 90.17, 91.74, "cifar-10")
THREE_CONVOLUTIONS = Published("about 10^7", 632, 81.14, 84.36, "cifar-10")
SMALL_STEPS = {"fine_tune": {"epochs": 20, "batch_size": 64}}
WHOLE = {
    "fit": {"steps": 10},
    "fine_tune": {"epochs": 2, "batch_size": 128, "learning_rate": 3e-4, "gate_learning_rate": 0.04},
}
GATES_ONLY = {"fit": {"steps": 10}, "fine_tune": {"epochs": 8, "batch_size": 128, "dense": "freeze"}}
PAPERS_FORM = {"depth": 1, "gate_sites": 2, "activation": "relu"}
"""Brick-walls of one TN layer on binary sites: with the columns of first gates that matter, they have 416 numbers."""

ROWS = (
    Row("fc2", "mnist", ("fc1",), 400, settings=SMALL_STEPS),
    Row("lenet5", "mnist", ("conv2", "fc1", "fc2"), 650, settings=SMALL_STEPS),
    Row("alexnet", "mnist-32", LINEAR["alexnet"], 424, settings=WHOLE),
    Row("zfnet", "mnist-32", LINEAR["zfnet"], 424, settings=WHOLE),
    Row("vgg16", "mnist-32", LINEAR["vgg16"], 424, TWO_LINEAR, WHOLE),
    Row("vgg16", "mnist-32", LINEAR["vgg16"], 424, TWO_LINEAR, WHOLE, "brick-walls", PAPERS_FORM),
    Row("vgg16", "mnist-32", LINEAR["vgg16"], 424, TWO_LINEAR, GATES_ONLY, "gates alone"),
    Row("vgg16", "mnist-32", (LINEAR["vgg16"],), 424, TWO_LINEAR, WHOLE),
    Row("vgg16", "mnist-32", CONVOLUTIONS, 632, THREE_CONVOLUTIONS, WHOLE),
    *(
        Row(network, data, layers, 424, TWO_LINEAR if (network, data) == ("vgg16", "cifar-10") else None, GATES_ONLY)
        for data in ("cifar-10", "cifar-100")
        for network, layers in LINEAR.items()
    ),
    Row("vgg16", "cifar-10", CONVOLUTIONS, 632, THREE_CONVOLUTIONS, GATES_ONLY),
)

TRAININGS: dict[tuple[str, bool], Training] = {
    ("fc2", False): Training(60_000, 10),
    ("lenet5", False): Training(60_000, 8, rate=2e-3),
    ("alexnet", False): Training(20_000, 2, batch=64, rate=3e-4),
    ("zfnet", False): Training(20_000, 2, batch=64, rate=3e-4),
    ("vgg16", False): Training(20_000, 2, batch=64, rate=3e-4),
    **{(network, True): Training(50_000, 40) for network in LINEAR},
}
"""By network, and whether the data are a CIFAR: 40 epochs of that are meant for a GPU."""


def named(names: Sequence[str]) -> tuple[Row, ...]:
    """Rows by their names, in the order of the table.

    Raises:
        ValueError: There is no such row.
    """
    known = {row.name for row in ROWS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"expected rows among {', '.join(sorted(known))}; got {', '.join(unknown)}")
    return tuple(row for row in ROWS if row.name in names)


def training_of(row: Row) -> Training:
    """How the baseline of a row is trained."""
    return TRAININGS[row.network, row.data.startswith("cifar")]

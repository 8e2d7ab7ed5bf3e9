"""What the methods are compared on: a network, the layers that are compressed, data in three parts, a baseline."""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adtn.moments import InputMoments, input_moments
from bench.accuracy.layers import Shapes
from bench.accuracy.training import accuracy, outputs_of
from bench.record import RESULTS

OUT = Path(__file__).parent.parent / "out" / "accuracy"
BASELINES = RESULTS / "baselines"
"""What runs began from: another processor trains another model from the same seed."""


class Part(NamedTuple):
    """Images (N, 1, height, width) from 0 to 1, and labels (N,)."""

    images: Tensor
    labels: Tensor

    def first(self, count: int | None) -> "Part":
        """The first images; all for None."""
        return Part(self.images[:count], self.labels[:count])


class Data(NamedTuple):
    """The parts. Choices are made on the validation images, and nothing is trained on them."""

    train: Part
    validation: Part
    test: Part


class Baseline(NamedTuple):
    """A trained model, its outputs for the training images, and the moments of the layers' inputs."""

    model: nn.Module
    targets: Tensor
    moments: dict[str, InputMoments]


@dataclass(frozen=True)
class Problem:
    """A task.

    Args:
        name: For the command line and for files.
        shapes: Of the weights that are compressed, by layer.
        make: A model in the form in which it is trained fastest.
        train: From the training part and a seed to a trained state dict.
        read: The data, from a folder or None.
        least_baseline: Accuracy that a baseline must have on the validation images.
        budgets: Numbers of the layers together.
        seeds: Of the test runs.
        epochs: Of fine-tuning.
        tuning_epochs: Of the runs on the validation images, which choose.
    """

    name: str
    shapes: Shapes
    make: Callable[[], nn.Module]
    train: Callable[[Part, int], dict[str, Tensor]]
    read: Callable[[Path | None], Data]
    least_baseline: float
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: int
    tuning_epochs: int

    @property
    def compressed(self) -> int:
        """Entries of the weights that are compressed."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @cached_property
    def dense(self) -> int:
        """Numbers that stay dense with every method."""
        return sum(parameter.numel() for parameter in self.make().parameters()) - self.compressed


def baseline(problem: Problem, data: Data, seed: int, trial: bool) -> Baseline:
    """The baseline of a seed: the one that is kept with the results, else one that is trained once.

    Args:
        problem: What is learned.
        data: All of it, or the few images of a trial.
        seed: Of the start and the order of the images.
        trial: A model of few images need not be good, and none is kept.

    Raises:
        SystemExit: It misses `least_baseline`.
    """
    kept = _kept_at(problem, seed)
    path = kept if kept.exists() and not trial else _trained_at(problem, data, seed)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(problem.train(data.train, seed), path)
    model = problem.make()
    model.load_state_dict(load_file(path))
    reached = accuracy(model, *data.validation)
    if reached < problem.least_baseline and not trial:
        raise SystemExit(f"{problem.name}, baseline {seed}: expected at least {problem.least_baseline}, got {reached}")
    return baseline_of(problem, model, data.train.images)


def keep_baseline(problem: Problem, data: Data, seed: int) -> None:
    """Put the baseline of a seed beside the results, so that runs on any machine begin from it."""
    kept = _kept_at(problem, seed)
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_trained_at(problem, data, seed), kept)


def _kept_at(problem: Problem, seed: int) -> Path:
    return BASELINES / f"{problem.name}-{seed}.safetensors"


def _trained_at(problem: Problem, data: Data, seed: int) -> Path:
    return OUT / f"{problem.name}-{len(data.train.images)}-{seed}.safetensors"


def baseline_of(problem: Problem, model: nn.Module, images: Tensor) -> Baseline:
    """What a trained model is compressed from.

    Args:
        problem: Of the model.
        model: In evaluation mode.
        images: For training, (N, 1, height, width).
    """
    return Baseline(model, outputs_of(model, images), _moments(problem, model, images))


def _moments(problem: Problem, model: nn.Module, images: Tensor) -> dict[str, InputMoments]:
    """Of the layers that are compressed."""
    found = input_moments(model, images, [f"{layer}.weight" for layer in problem.shapes])
    return {layer: found[f"{layer}.weight"] for layer in problem.shapes}

"""Samples a second in fine-tuning two linear layers of a VGG-16: dense and encoded, with activations kept and without.

All four are `adtn.fine_tune` without distillation on the same noise, all else frozen, in one process and in turn. The
losses with kept activations have to be those without.
"""

import copy
import os
import statistics
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

import adtn
from bench.markers import DOCS, write_between
from bench.record import described, provenance, store
from worker.architectures.new import create

COMMAND = "python -m bench fine-tuning"
KEYS = ("classifier.0.weight", "classifier.3.weight")
SEED = 0
DEPTH = 2
TOLERANCE = 1e-4
"""Largest relative difference of losses: sums of other batches are rounded in another order."""


@dataclass(frozen=True)
class Size:
    """What is measured.

    Args:
        images: Of 3 x `side` x `side`; an epoch.
        side: Of an image, in pixels.
        batch: Images a step.
        epochs: In which the activations are used.
        rounds: Runs of each variant, after one that warms up.
        widths: Channels of each convolution; None for the published.
        hidden: Widths of the two linear layers; None for the published.
    """

    images: int = 512
    side: int = 32
    batch: int = 128
    epochs: int = 2
    rounds: int = 5
    widths: tuple[int, ...] | None = None
    hidden: tuple[int, int] | None = None


@dataclass(frozen=True)
class Variant:
    """One of the four.

    Args:
        weights: "dense" or "encoded".
        kept: Whether activations are kept.
    """

    weights: str
    kept: bool


VARIANTS = tuple(Variant(weights, kept) for weights in ("dense", "encoded") for kept in (False, True))


def run() -> None:
    """Measure, store, and write the table of its page."""
    torch.set_num_threads(os.cpu_count() or 1)
    size = Size()
    result: dict[str, Any] = {"provenance": provenance(COMMAND, [SEED]), "size": asdict(size), "rows": measured(size)}
    store("fine_tuning", result)
    write_between(DOCS / "paper.md", "fine-tuning", table(result))


def measured(size: Size) -> list[dict[str, Any]]:
    """A row a variant, with every run.

    Args:
        size: Of the network and of the data.

    Raises:
        SystemExit: The losses with kept activations are not those without.
    """
    torch.manual_seed(SEED)
    dense = create("vgg16", (3, size.side, size.side), 10, widths=size.widths, hidden=size.hidden)
    for key, parameter in dense.named_parameters():
        parameter.requires_grad_(key in KEYS)
    models = {"dense": dense, "encoded": encode(dense)}
    inputs, labels = torch.randn(size.images, 3, size.side, size.side), torch.randint(10, (size.images,))
    facts: dict[Variant, list[adtn.FineTuned]] = {variant: [] for variant in VARIANTS}
    for number in range(size.rounds + 1):
        losses = {}
        for variant in VARIANTS:
            fact, losses[variant] = trained(models[variant.weights], (inputs, labels), size, variant)
            facts[variant].extend([fact] if number else [])  # the first round warms up
        check(losses)
    return [row(models[variant.weights], variant, facts[variant]) for variant in VARIANTS]


def encode(dense: nn.Module) -> nn.Module:
    """The model with encoded layers; they are not fitted, as a step takes the same time for any numbers."""
    model = copy.deepcopy(dense)
    generator = torch.Generator().manual_seed(SEED)
    for key in KEYS:
        shape = model.get_parameter(key).shape
        structure = adtn.brick_wall(adtn.sites_for(shape), DEPTH)
        adtn.encode(model, key, adtn.ADTN(shape, structure, generator=generator))
    return model


def trained(
    model: nn.Module, data: tuple[Tensor, Tensor], size: Size, variant: Variant
) -> tuple[adtn.FineTuned, list[float]]:
    """What the training of a copy takes, and the loss of each step."""
    losses: list[float] = []
    budget = adtn.FineTuneOptions().cache_bytes if variant.kept else 0
    # The labels are noise, so that learning would only lead astray; a small step takes as long as a large one.
    options = adtn.FineTuneOptions(size.epochs, 1e-6, batch_size=size.batch, seed=SEED, cache_bytes=budget)
    fact = adtn.fine_tune(copy.deepcopy(model), *data, options, on_step=lambda *step: losses.append(step[2]))
    if variant.kept and fact.not_cached is not None:
        raise SystemExit(f"expected activations to be kept, got: {fact.not_cached}")
    return fact, losses


def check(losses: dict[Variant, list[float]]) -> None:
    """Refuse to measure a training that is another one with kept activations."""
    for weights in ("dense", "encoded"):
        pairs = list(zip(losses[Variant(weights, True)], losses[Variant(weights, False)], strict=True))
        if not all(abs(kept - plain) <= TOLERANCE * plain for kept, plain in pairs):
            raise SystemExit(
                f"{weights}: expected losses that differ by at most {TOLERANCE} of themselves, got {pairs}"
            )


def row(model: nn.Module, variant: Variant, facts: list[adtn.FineTuned]) -> dict[str, Any]:
    """A variant's runs, and their median."""
    speeds = [fact.samples_per_second for fact in facts]
    return {
        **asdict(variant),
        "trained_numbers": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "cached_bytes": facts[0].cached_bytes,
        "preparation_seconds": [fact.preparation_seconds for fact in facts],
        "samples_per_second": speeds,
        "median": statistics.median(speed for speed in speeds if speed is not None),
    }


def table(result: dict[str, Any]) -> str:
    """A row a variant, and where they come from."""
    lines = [
        "| two linear layers | numbers trained | bytes of kept activations | preparation, s | samples a second |",
        "|---|---|---|---|---|",
    ]
    for item in result["rows"]:
        runs = item["samples_per_second"]
        lines.append(
            f"| {item['weights']} | {item['trained_numbers']:,} | {item['cached_bytes']:,} "
            f"| {statistics.median(item['preparation_seconds']):.2f} "
            f"| **{item['median']:,.0f}** ({min(runs):,.0f} to {max(runs):,.0f}) |"
        )
    size, where = result["size"], result["provenance"]
    note = (
        f"Median of {size['rounds']} runs (lowest to highest), {size['images']} images of {size['side']} x "
        f"{size['side']} in batches of {size['batch']}. `{where['command']}` at {where['commit']}, "
        f"{described(where['machine'])}, torch {where['machine']['torch']}; "
        "every run is in `bench/results/fine_tuning.json`."
    )
    return "\n".join([*lines, "", note])

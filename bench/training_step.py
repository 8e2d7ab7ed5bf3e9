"""A step of fine-tuning LeNet-5 with three encoded layers, over the step of the same model with dense ones.

Both are steps of `adtn.fine_tune` without distillation, in one process and in turn. Before any time counts, the encoded
model's loss and gradients are compared with those of the dense model whose weights are decoded in another way.
"""

import copy
import json
import os
import statistics
import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

import adtn
from bench.contraction.check import difference
from bench.contraction.methods import layer_by_layer
from bench.contraction.networks import Inputs, Network
from bench.contraction.peers import tensordot
from bench.lenet5_mnist import LAYERS, LeNet5
from bench.markers import DOCS, write_between
from bench.record import RESULTS, described, provenance, store

BATCH = 256
SEED = 0
DEPTH = 2
ROUNDS = 20
STEPS = 10
"""Of each model in each round; the first one is not counted, as it also sets up the optimiser."""
TOLERANCE = 1e-5
MOST_RATIO = 1.5
"""Of an encoded step to a dense one."""


def run() -> None:
    """Check, measure, store, and write the line of the page."""
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(SEED)
    dense = LeNet5()
    encoded = encode(dense)
    images, labels = torch.rand(STEPS * BATCH, 1, 28, 28), torch.randint(10, (STEPS * BATCH,))
    check(dense, encoded, images[:BATCH], labels[:BATCH])
    models = {"dense": dense, "encoded": encoded}
    rounds = [{name: step_seconds(model, images, labels) for name, model in models.items()} for _ in range(ROUNDS + 1)]
    del rounds[0]  # it warms up
    medians = [{name: statistics.median(runs) for name, runs in found.items()} for found in rounds]
    row = {
        "parameters": {key: part.structure.parameters for key, part in adtn.encoded(encoded).items()},
        "batch": BATCH,
        "rounds": rounds,
        "median": {name: statistics.median(found[name] for found in medians) for name in models},
        "ratio": statistics.median(found["encoded"] / found["dense"] for found in medians),
    }
    store("training_step", {"provenance": provenance("make bench-contraction", [SEED]), "rows": [row]})
    write()
    if row["ratio"] > MOST_RATIO:
        raise SystemExit(f"expected an encoded step to take at most {MOST_RATIO} dense ones, got {row['ratio']:.2f}")


def encode(dense: nn.Module) -> nn.Module:
    """The model with encoded layers; they are not fitted, as a step takes the same time for any numbers."""
    model = copy.deepcopy(dense)
    for name in LAYERS:
        shape = model.get_submodule(name).get_parameter("weight").shape
        adtn.encode(model, f"{name}.weight", adtn.ADTN(shape, adtn.brick_wall(adtn.sites_for(shape), DEPTH)))
    return model


def check(dense: nn.Module, encoded: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Refuse to measure a model whose loss or gradient is not that of its decoded weights."""
    parts = adtn.encoded(encoded)
    gates = {key: part.gates.detach().clone().requires_grad_() for key, part in parts.items()}
    weights = {key: decode(gates[key], part.shape) for key, part in parts.items()}
    state: dict[str, Tensor] = {**dict(dense.named_parameters()), **weights}
    expected = functional.cross_entropy(functional_call(dense, state, (images,)), labels)
    found = functional.cross_entropy(encoded(images), labels)
    expected_gradients = torch.autograd.grad(expected, list(gates.values()))
    found_gradients = torch.autograd.grad(found, [part.gates for part in parts.values()])
    pairs = zip([found.view(1), *found_gradients], [expected.view(1), *expected_gradients], strict=True)
    wrong = [value for value in (difference(a.detach(), b.detach()) for a, b in pairs) if not value <= TOLERANCE]
    if wrong:
        raise SystemExit(f"expected relative differences of at most {TOLERANCE}, got {wrong}")


def decode(gates: Tensor, shape: torch.Size) -> Tensor:
    """A weight from its gates, gate by gate."""
    network = Network(adtn.sites_for(shape), DEPTH)
    return layer_by_layer(tensordot, network, Inputs(gates, None))[: shape.numel()].view(shape)


def step_seconds(model: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """The time of each step of one epoch, but for the first."""
    ends: list[float] = []
    # The labels are noise, so that learning would only lead astray; a small step takes as long as a large one.
    options = adtn.FineTuneOptions(epochs=1, batch_size=BATCH, learning_rate=1e-6, seed=SEED)
    adtn.fine_tune(model, images, labels, options, on_step=lambda *_: ends.append(time.perf_counter()))
    return [after - before for before, after in pairwise(ends)]


def write() -> None:
    """Put the result into the page."""
    result = json.loads((RESULTS / "training_step.json").read_text())
    write_between(DOCS / "contraction.md", "training-step", table(result))


def table(result: dict[str, Any]) -> str:
    """One line, and where it comes from."""
    row, where = result["rows"][0], result["provenance"]
    milliseconds = {name: 1000 * value for name, value in row["median"].items()}
    return "\n".join(
        [
            "| dense step, ms | encoded step, ms | ratio | numbers of the encoded layers |",
            "| --- | --- | --- | --- |",
            f"| {milliseconds['dense']:.2f} | {milliseconds['encoded']:.2f} | **{row['ratio']:.2f}** "
            f"| {sum(row['parameters'].values()):,} |",
            "",
            f"Medians of {len(row['rounds'])} rounds of {len(row['rounds'][0]['dense'])} steps each; the ratio is that "
            f"of a round. `{where['command']}` at {where['commit']}, "
            f"{described(where['machine'])}, torch {where['machine']['torch']}; "
            "every run is in `bench/results/training_step.json`.",
        ]
    )

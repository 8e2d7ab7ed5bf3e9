"""Accuracy and bytes of a small LeNet-5 on the digits of scikit-learn, its gates as floats and in few bits.

Each row is fine-tuned with the rounding in it, and once more without, to be rounded at the end. Every model is written
to a file, and what is evaluated is what the file decodes to.
"""

import copy
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import adtn
from bench.markers import DOCS, write_between
from bench.record import RESULTS, provenance, store
from demo.model import DigitsNet, accuracy, train
from worker.datasets import Dataset, load

LAYERS = ["conv2", "fc1", "fc2"]
TARGETS = (1000, 2000, 4000)
BITS = (8, 6, 5, 4, 3, 2)
SEEDS = (0, 1, 2, 3, 4)
EPOCHS, BATCH = 15, 64

Run = dict[str, float]


def run() -> None:
    """Train, compress at each size, fine-tune in each number of bits, store, and write the table of its page."""
    torch.set_num_threads(1)
    data = load("digits")
    torch.manual_seed(0)
    original = DigitsNet()
    train(original, data.train_x, data.train_y, epochs=20)
    rows = [row for target in TARGETS for row in rows_of(original, data, target)]
    result = {
        "provenance": provenance("python -m bench gate-bits", list(SEEDS)),
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "baseline": accuracy(original, data.test_x, data.test_y),
        "samples": len(data.test_y),
        "rows": rows,
    }
    store("gate_bits", result)
    write()


def rows_of(original: nn.Module, data: Dataset, target: int) -> list[dict[str, Any]]:
    """All rows of one size."""
    fitted = copy.deepcopy(original)
    plan = adtn.make_plan(adtn.layers_of(fitted), LAYERS, target=adtn.Target(parameters=target))
    adtn.compress(fitted, plan, inputs=data.train_x)
    floats = [tuned(fitted, original, data, seed, None) for seed in SEEDS]
    rows = [row(plan.parameters, None, [measured(model, data) for model in floats], None)]
    for bits in BITS:
        within = [measured(tuned(fitted, original, data, seed, bits), data) for seed in SEEDS]
        after = [measured(rounded(model, bits), data) for model in floats]
        rows.append(row(plan.parameters, bits, within, after))
    return rows


def tuned(fitted: nn.Module, teacher: nn.Module, data: Dataset, seed: int, bits: int | None) -> nn.Module:
    """A copy of the fitted model, fine-tuned."""
    model = copy.deepcopy(fitted)
    options = adtn.FineTuneOptions(epochs=EPOCHS, batch_size=BATCH, seed=seed, gate_bits=bits)
    adtn.fine_tune(model, data.train_x, data.train_y, options, teacher)
    return model


def rounded(model: nn.Module, bits: int) -> nn.Module:
    """A copy of a trained model, its gates rounded now."""
    model = copy.deepcopy(model)
    for module in adtn.encoded(model).values():
        module.quantise(bits)
    return model


def measured(model: nn.Module, data: Dataset) -> Run:
    """What a file of the model has: its accuracy, the bytes of its gates, and its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.adtn.safetensors"
        adtn.save(model, path)
        dense = DigitsNet()
        dense.load_state_dict(adtn.decode(path))
        return {
            "accuracy": accuracy(dense, data.test_x, data.test_y),
            "gate_bytes": sum(adtn.stored_bytes(module) for module in adtn.encoded(model).values()),
            "file_bytes": path.stat().st_size,
        }


def row(numbers: int, bits: int | None, within: list[Run], after: list[Run] | None) -> dict[str, Any]:
    """One size in one number of bits, with every run."""
    return {"numbers": numbers, "bits": bits, "rounded_in_training": within, "rounded_after_training": after}


def table(result: dict[str, Any]) -> str:
    """A row a size and number of bits, and where they come from."""
    lines = [
        "| numbers stored | bits | bytes of the gates | accuracy | rounded after training instead |",
        "|---|---|---|---|---|",
    ]
    for item in result["rows"]:
        size = statistics.mean(one["gate_bytes"] for one in item["rounded_in_training"])
        after = item["rounded_after_training"]
        lines.append(
            f"| {item['numbers']:,} | {item['bits'] or 'floats'} | {size:,.0f} "
            f"| {percent(item['rounded_in_training'])} | {percent(after) if after else ''} |"
        )
    where = result["provenance"]
    note = (
        f"Mean of {len(where['seeds'])} seeds (lowest to highest) on {result['samples']} test images: a point is "
        f"nothing. The model had {100 * result['baseline']:.1f} before. `{where['command']}` at "
        f"{where['commit']}; every run is in `bench/results/gate_bits.json`."
    )
    return "\n".join([*lines, "", note])


def percent(runs: list[Run]) -> str:
    """A mean with the lowest and highest run."""
    found = [100 * one["accuracy"] for one in runs]
    return f"{statistics.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})"


def write() -> None:
    """Put the table into the page."""
    write_between(DOCS / "gate_bits.md", "gate-bits", table(json.loads((RESULTS / "gate_bits.json").read_text())))

"""LeNet-5 on MNIST through the running service: train, upload, compress, download, evaluate the download here.

The result is refused unless the baseline has at least 98.5 %, every job keeps its promise, the file holds the numbers
that the report counts, and the downloaded dense artifact, loaded into this script's own model, has exactly the reported
accuracy.
"""

import gzip
import statistics
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from adtn_client import Client
from bench.record import provenance, store
from bench.service import check_claims, running_service, stored_numbers, upload

FILES = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}
LAYERS = ["conv2", "fc1", "fc2"]
SHORT: dict[str, Any] = {"fine_tune": {"epochs": 5, "batch_size": 64}}
THOROUGH: dict[str, Any] = {
    "fine_tune": {"teacher_epochs": 5, "epochs": 15, "natural_epochs": 10, "batch_size": 64},
    "augment": {"crop": 1},
}
LEAST_BASELINE = 0.985
VALIDATION = 10_000
"""The last of the training images, where they are a split of their own, which the original has not seen."""


class Goal(NamedTuple):
    """What a job is asked for.

    Args:
        target: Of the settings.
        least_final: Accuracy that it must have in the median over the seeds.
        training: The settings of fine-tuning.
        validated: Whether the data have a validation split.
    """

    target: dict[str, float]
    least_final: float
    training: dict[str, Any] = SHORT
    validated: bool = False


GOALS = (
    Goal({"parameters": 400}, 0.975),
    Goal({"parameters": 650}, 0.982),
    Goal({"parameters": 1000}, 0.985),
    Goal({"parameters": 2500}, 0.9865),
    Goal({"ratio": 60}, 0.985),
    Goal({"max_accuracy_drop": 0.5}, 0.985),
    Goal({"max_accuracy_drop": 0.5}, 0.985, validated=True),
    Goal({"parameters": 1000}, 0.988, THOROUGH),
)


class LeNet5(nn.Module):
    """The model of a user: 28 x 28 inputs, ReLU, max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 28, 28)."""
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        return self.fc3(functional.relu(self.fc2(x)))


def read_idx(folder: Path, name: str) -> Tensor:
    """An IDX file of bytes, gzipped or not."""
    path = folder / f"{name}.gz"
    raw = gzip.decompress(path.read_bytes()) if path.exists() else (folder / name).read_bytes()
    shape = [int.from_bytes(raw[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(raw[3])]
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy())


def train(images: Tensor, labels: Tensor, seed: int, epochs: int = 8) -> LeNet5:
    """Train a baseline with Adam and a cosine schedule."""
    torch.manual_seed(seed)
    model = LeNet5()
    batch = 128
    steps = epochs * (len(images) // batch)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            chosen = order[start : start + batch]
            loss = functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1, from 0 to 1."""
    return float((model(images).argmax(1) == labels).double().mean())


def pack(folder: Path, target: Path) -> None:
    """The four IDX files as one zip, as a user would send them."""
    with zipfile.ZipFile(target, "w") as archive:
        for name in FILES.values():
            path = folder / f"{name}.gz"
            archive.write(path if path.exists() else folder / name)


def pack_split(tensors: dict[str, Tensor], target: Path) -> None:
    """The same images with a validation split, as arrays."""
    parts = {"train": slice(-VALIDATION), "val": slice(-VALIDATION, None)}
    splits = {f"{part}_{axis}": tensors[f"train_{axis}"][rows] for part, rows in parts.items() for axis in "xy"}
    np.savez_compressed(target, **{name: found.numpy() for name, found in (tensors | splits).items()})


def compress(client: Client, checkpoint: str, dataset: str, goal: Goal, seed: int, folder: Path) -> dict[str, Any]:
    """One job; the figures of its report, and where its artifacts are."""
    started = time.perf_counter()
    job = client.jobs.create(
        {
            "checkpoint": checkpoint,
            "architecture": "lenet5",
            "dataset": dataset,
            "compression": {"layers": LAYERS, "target": goal.target},
            "seed": seed,
            **goal.training,
        }
    )
    report = client.jobs.wait(job.id).report
    assert report is not None
    seconds = time.perf_counter() - started
    for name in ("model.adtn.safetensors", "model.dense.safetensors"):
        client.jobs.download(job.id, name, folder / name)
    return {"report": report, "seconds": seconds}


def check(run: dict[str, Any], target: dict[str, float], folder: Path, images: Tensor, labels: Tensor) -> None:
    """Refuse a run whose report is not what the downloaded files say."""
    report = run["report"]
    stored = stored_numbers(folder / "model.adtn.safetensors")
    model = LeNet5().eval()
    model.load_state_dict(load_file(folder / "model.dense.safetensors"))
    found = accuracy(model, images, labels)
    check_claims(
        {
            "numbers in the file": (stored, report["parameters"]["encoded"]["compressed"]),
            "accuracy of the download": (found, report["accuracy"]["final"]),
        }
    )
    if not kept(target, report):
        raise SystemExit(f"the promise {target} is not kept: {report['parameters']['encoded']}, {report.get('search')}")


def kept(target: dict[str, float], report: dict[str, Any]) -> bool:
    """Whether a report says that the promise was kept."""
    encoded = report["parameters"]["encoded"]
    if "parameters" in target:
        return bool(encoded["compressed"] <= target["parameters"])
    if "ratio" in target:
        return bool(encoded["original"] / encoded["compressed"] >= target["ratio"])
    tried = {trial["encoded_parameters"]: trial["drop"] for trial in report["search"]["trials"]}
    drop = tried.get(encoded["compressed"])
    return drop is not None and drop <= target["max_accuracy_drop"]


def run(data: Path, seeds: Sequence[int]) -> None:
    """Train a baseline for each seed, run every target through the service, check, and store."""
    tensors = {name: read_idx(data, file) for name, file in FILES.items()}
    train_x, test_x = (tensors[name].unsqueeze(1).float() / 255 for name in ("train_x", "test_x"))
    train_y, test_y = (tensors[name].long() for name in ("train_y", "test_y"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack(data, folder / "mnist.zip")
        pack_split(tensors, folder / "mnist.npz")
        with running_service(folder / "service") as url, Client(url) as client:
            datasets = [upload(client, folder / name, "dataset") for name in ("mnist.zip", "mnist.npz")]
            runs: list[list[dict[str, Any]]] = [[] for _ in GOALS]
            for seed in seeds:
                checkpoints = []
                for samples in (len(train_x), len(train_x) - VALIDATION):
                    model = train(train_x[:samples], train_y[:samples], seed)
                    save_file(model.state_dict(), folder / "lenet5.safetensors")
                    checkpoints.append(upload(client, folder / "lenet5.safetensors", "checkpoint"))
                for goal, done in zip(GOALS, runs, strict=True):
                    checkpoint, dataset = checkpoints[goal.validated], datasets[goal.validated]
                    result = compress(client, checkpoint, dataset, goal, seed, folder)
                    check(result, goal.target, folder, test_x, test_y)
                    figures = result["report"]["accuracy"]
                    print(f"seed {seed}, {goal.target}: {figures}, {result['seconds']:.0f} s", flush=True)
                    done.append(result)
    rows = [row(goal, done) for goal, done in zip(GOALS, runs, strict=True)]
    command = f"python -m bench lenet5-mnist --data FOLDER --seeds {len(seeds)}"
    store("lenet5_mnist", {"provenance": provenance(command, list(seeds)), "rows": rows})
    for goal, found in zip(GOALS, rows, strict=True):
        require(goal, found)


def row(goal: Goal, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the table: every run and the median of each figure."""
    reports = [run["report"] for run in runs]
    first = reports[0]
    return {
        "target": goal.target,
        "training": goal.training,
        "validated": goal.validated,
        "parameters": summary([report["parameters"]["encoded"]["compressed"] for report in reports]),
        "ratio": summary([report["parameters"]["encoded"]["ratio"] for report in reports]),
        "structures": {layer["name"]: layer["structure"] for layer in first["parameters"]["layers"]},
        "bytes": {
            "checkpoint": first["bytes"]["checkpoint"],
            "adtn": first["bytes"]["artifacts"]["model.adtn.safetensors"],
        },
        **{
            name: summary([report["accuracy"][name] for report in reports])
            for name in ("baseline", "teacher", "after_fit", "final")
            if first["accuracy"][name] is not None
        },
        "seconds": summary([run["seconds"] for run in runs]),
        "seconds_by_stage": [report["seconds"] for report in reports],
    }


def summary(runs: list[float]) -> dict[str, Any]:
    """Every run and the median."""
    return {"runs": runs, "median": statistics.median(runs)}


def require(goal: Goal, found: dict[str, Any]) -> None:
    """Fail where a row misses what it must reach."""
    if min(found["baseline"]["runs"]) < LEAST_BASELINE:
        raise SystemExit(f"expected a baseline of at least {LEAST_BASELINE}, got {found['baseline']['runs']}")
    if found["final"]["median"] < goal.least_final:
        raise SystemExit(f"{goal.target}: expected {goal.least_final}, got {found['final']['runs']}")

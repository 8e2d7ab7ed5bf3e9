"""Every network that is known by name goes through the whole service, on an archive in the form of CIFAR-10."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save_file
from support.api import artifact, create, succeeded, upload
from support.cifar import cifar10_python, packed, ten_batches
from support.digits import accuracy
from torch import Tensor, nn

from worker import architectures
from worker.architectures.fc2 import FC2
from worker.architectures.lenet5 import LeNet5

pytestmark = [pytest.mark.e2e, pytest.mark.redis]

IMAGES = 24
"""Of each of the six batches."""
IMAGE = (3, 32, 32)
LENET5 = {
    "channels": 3,
    "conv1": 6,
    "kernel1": 5,
    "conv2": 16,
    "kernel2": 5,
    "features": 400,
    "fc1": 64,
    "fc2": 48,
    "classes": 10,
}
SEQUENTIAL = {
    "alexnet": {"widths": (8, 12, 16, 12, 12), "hidden": (64, 64)},
    "zfnet": {"widths": (8, 12, 16, 16, 12), "hidden": (64, 64)},
    "vgg16": {"widths": (4, 4, 6, 6, 8, 8, 8, 12, 12, 12, 12, 12, 12), "hidden": (64, 64), "batch_norm": True},
}
LAYERS: dict[str, list[str | list[str]]] = {
    "fc2": ["fc1"],
    "lenet5": ["conv2", "fc1"],
    "alexnet": ["classifier.1", "classifier.4"],
    "zfnet": [["classifier.1", "classifier.4"]],  # one ADTN for both
    "vgg16": ["classifier.0", "classifier.3"],
}
OTHER_SETTINGS: dict[str, dict[str, Any]] = {
    "lenet5": {"augment": {"crop": 2, "flip": True}},
    "alexnet": {"fine_tune": {"epochs": 1, "batch_size": 30, "accumulate": 2}},
    "vgg16": {"fine_tune": {"epochs": 1, "batch_size": 30, "dense": "freeze"}},
}


def network(name: str) -> nn.Module:
    """A narrow one with random weights."""
    torch.manual_seed(0)
    if name == "fc2":
        return FC2(3 * 32 * 32, 32, 10)
    if name == "lenet5":
        return LeNet5(LENET5, (0, 0))
    return architectures.create(name, IMAGE, 10, **SEQUENTIAL[name])


@pytest.fixture(scope="module")
def dataset(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("cifar") / "cifar-10-python.tar.gz"
    path.write_bytes(packed(cifar10_python(ten_batches(IMAGES)), "tar.gz"))
    with stack.client() as api:
        file = upload(api, path, "dataset")
    assert file["status"] == "ready", file["error"]
    assert file["summary"]["splits"] == {"train": 5 * IMAGES, "test": IMAGES}
    return str(file["id"])


def images_to_test() -> tuple[Tensor, Tensor]:
    """What the archive's test batch holds, as a user would read it."""
    found = ten_batches(IMAGES)["test_batch"]
    return torch.from_numpy(found.pixels).view(-1, *IMAGE).float() / 255, torch.tensor(found.labels)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_a_network_is_compressed_and_what_comes_out_is_as_accurate_as_reported(
    api: httpx.Client, dataset: str, tmp_path: Path, name: str
) -> None:
    path = tmp_path / f"{name}.safetensors"
    save_file(network(name).state_dict(), path)
    settings = {
        "checkpoint": upload(api, path)["id"],
        "architecture": name,
        "dataset": dataset,
        "compression": {"layers": LAYERS[name], "structure": {"depth": 1}},
        "fit": {"steps": 5},
        "fine_tune": {"epochs": 1, "batch_size": 30},
        **OTHER_SETTINGS.get(name, {}),
    }
    job = succeeded(api, create(api, **settings)["id"])
    report = job["report"]
    assert report["verified"]["fresh_process"] is True
    names = [" + ".join(item) if isinstance(item, list) else item for item in LAYERS[name]]
    assert [layer["name"] for layer in report["parameters"]["layers"]] == names
    assert report["parameters"]["encoded"]["ratio"] > 10
    model = network(name).eval()
    model.load_state_dict(load_bytes(artifact(api, job["id"], "model.dense.safetensors")))
    assert accuracy(model, *images_to_test()) == report["accuracy"]["final"]
    assert report["accuracy"]["samples"] == IMAGES

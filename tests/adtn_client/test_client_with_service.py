"""The client and the command line with the real service and its real workers."""

import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from running_up import ADTN, Up, start_until_ready
from safetensors.torch import load_file, save_file

import adtn
from adtn_client import Client, JobNotSucceeded, ProblemError

pytestmark = [pytest.mark.e2e, pytest.mark.redis]

QUICK = {"fit": {"steps": 10}, "compression": {"layers": ["fc1"], "target": {"parameters": 300}}}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = start_until_ready(tmp_path_factory.mktemp("up"))
    yield running
    running.stop()


@pytest.fixture
def client(up: Up) -> Iterator[Client]:
    with Client(up.url) as connected:
        yield connected


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("checkpoint") / "weights.safetensors"
    save_file({"fc1.weight": weights, "fc1.bias": torch.zeros(64)}, path)
    return path


@pytest.fixture(scope="module")
def file_id(up: Up, checkpoint: Path) -> str:
    """The checkpoint, uploaded and inspected."""
    with Client(up.url) as client:
        return client.files.wait(client.files.upload(checkpoint, "checkpoint").id, timeout_s=60).id


def test_whole_job_through_the_client(client: Client, checkpoint: Path, tmp_path: Path) -> None:
    assert client.ready()
    assert {"fc2", "lenet5"} <= {known.name for known in client.architectures()}
    assert "digits" in {known.name for known in client.datasets()}
    file = client.files.wait(client.files.upload(checkpoint, "checkpoint").id, timeout_s=60)
    assert file.status == "ready"
    (layer,) = [layer for layer in client.files.layers(file.id) if layer.eligible]
    assert (layer.name, layer.shape) == ("fc1", [64, 32])
    settings = {"checkpoint": file.id, **QUICK}
    estimate = client.jobs.estimate(settings)
    assert estimate.parameters.original == math.prod(layer.shape)

    job = client.jobs.create(settings)
    events = list(client.jobs.stream(job.id))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == "job.succeeded"
    assert [event.id for event in client.jobs.events(job.id)] == [event.id for event in events]
    assert client.jobs.wait(job.id, timeout_s=1).status == "succeeded"

    report = client.jobs.report(job.id)
    assert report.accuracy is None
    assert report.parameters.encoded.compressed == estimate.parameters.compressed <= 300
    for artifact in client.jobs.artifacts(job.id):
        client.jobs.download(job.id, artifact.name, tmp_path)
    decoded, dense = adtn.decode(tmp_path / "model.adtn.safetensors"), load_file(tmp_path / "model.dense.safetensors")
    assert all(torch.equal(decoded[key], dense[key]) for key in load_file(checkpoint))


def test_objects_are_listed_and_deleted(client: Client, checkpoint: Path) -> None:
    file = client.files.upload(checkpoint, "checkpoint")
    job = client.jobs.create({"checkpoint": file.id, **QUICK})
    client.jobs.wait(job.id, timeout_s=60)
    assert job.id in {listed.id for listed in client.jobs.list(status="succeeded")}
    client.jobs.delete(job.id)
    client.files.delete(file.id)
    assert job.id not in {listed.id for listed in client.jobs.list()}
    assert file.id not in {listed.id for listed in client.files.list()}


def test_cancelled_job_can_be_retried(client: Client, file_id: str) -> None:
    job = client.jobs.create({"checkpoint": file_id, **QUICK, "fit": {"steps": 100_000}})
    client.jobs.cancel(job.id)
    with pytest.raises(JobNotSucceeded, match="was cancelled"):
        client.jobs.wait(job.id, timeout_s=60)
    again = client.jobs.retry(job.id)
    assert again.retried_from == job.id
    client.jobs.cancel(again.id)


def test_same_key_gives_the_same_job(client: Client, file_id: str) -> None:
    first, second = (
        client.jobs.create({"checkpoint": file_id, **QUICK}, idempotency_key="only-once") for _ in range(2)
    )
    assert first.id == second.id
    with pytest.raises(ProblemError) as caught:
        client.jobs.create({"checkpoint": file_id}, idempotency_key="only-once")
    assert caught.value.code == "idempotency_key_reused"
    client.jobs.cancel(first.id)


def test_refusal_names_the_field_and_the_request(client: Client, file_id: str) -> None:
    with pytest.raises(ProblemError) as caught:
        client.jobs.create({"checkpoint": file_id, "fine_tune": {"epochs": -1}})
    assert (caught.value.status, caught.value.code) == (422, "validation_failed")
    assert [fault.pointer for fault in caught.value.errors] == ["/fine_tune/epochs"]
    assert caught.value.request_id


def test_whole_job_through_the_command_line(up: Up, checkpoint: Path, tmp_path: Path) -> None:
    options = ["--layers", "fc1", "--target", "300", "--steps", "10", "--out", str(tmp_path)]
    environment = {**os.environ, "ADTN_URL": up.url}
    done = subprocess.run([ADTN, "compress", checkpoint, *options], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not measured: there were no data" in done.stdout
    assert {"model.adtn.safetensors", "model.dense.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    stored = adtn.decode(tmp_path / "model.adtn.safetensors")
    assert {key: tensor.shape for key, tensor in stored.items()} == {"fc1.weight": (64, 32), "fc1.bias": (64,)}

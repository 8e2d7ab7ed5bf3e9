"""A job in which several layers are one network: planned, trained, exported, verified and reported as one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.digits import DigitsLeNet, accuracy
from support.worker_jobs import artifact, run_once

import adtn
from worker.datasets import load
from worker.resources import Resources

GROUP = ["fc1", "fc2"]


def run(resources: Resources, checkpoint_id: str, compression: dict[str, Any], **settings: Any) -> Any:
    job = run_once(
        resources, {"checkpoint": checkpoint_id, "fit": {"steps": 5}, "compression": compression, **settings}
    )
    assert job.status == "succeeded", job.error
    return job


@pytest.mark.parametrize("structure", ["auto", {"depth": 1}], ids=["measured", "brick-wall"])
def test_a_group_within_a_target_is_one_network_in_file_and_report(
    resources: Resources, checkpoint_id: str, tmp_path: Path, structure: Any
) -> None:
    compression = {"layers": ["conv2", GROUP], "structure": structure, "target": {"parameters": 700}}
    settings = {"architecture": "lenet5", "dataset": "digits", "fine_tune": {"epochs": 1}}
    job = run(resources, checkpoint_id, compression, **settings)
    conv, group = job.report["parameters"]["layers"]
    shapes = {part["name"]: tuple(part["shape"]) for part in group["parts"]}
    assert (conv["name"], conv["parts"]) == ("conv2", [])
    assert (group["name"], group["kind"], list(shapes)) == ("fc1 + fc2", "group", GROUP)
    original = DigitsLeNet().state_dict()
    assert shapes == {name: tuple(original[f"{name}.weight"].shape) for name in GROUP}
    assert group["original"] == sum(original[f"{name}.weight"].numel() for name in GROUP)
    assert conv["compressed"] + group["compressed"] <= 700
    path, dense = (artifact(resources, job.id, kind, tmp_path) for kind in ("adtn", "dense"))
    stored = load_file(path)
    assert stored["fc1.weight.gates"].numel() == group["compressed"]
    assert "fc2.weight.gates" not in stored
    decoded = adtn.decode(path)
    assert all(torch.equal(decoded[key], tensor) for key, tensor in load_file(dense).items())
    data = load("digits")
    model = adtn.load(path, DigitsLeNet()).eval()
    assert accuracy(model, data.test_x, data.test_y) == job.report["accuracy"]["final"]
    assert job.report["verified"]["fresh_process"]


def test_without_data_a_group_is_fitted_to_the_joined_weights(
    resources: Resources, checkpoint_id: str, tmp_path: Path
) -> None:
    job = run(resources, checkpoint_id, {"layers": [GROUP], "structure": {"depth": 1}})
    (group,) = job.report["parameters"]["layers"]
    torch.manual_seed(0)
    original = DigitsLeNet().state_dict()
    decoded = adtn.decode(artifact(resources, job.id, "adtn", tmp_path))
    before, after = (torch.cat([s[f"{name}.weight"].flatten() for name in GROUP]) for s in (original, decoded))
    assert float((after - before).norm() / before.norm()) == pytest.approx(group["relative_error"], abs=2e-6)

"""Jobs on a machine with an accelerator; run by `test_accelerator.py`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.accelerator import NAME
from support.digits import DigitsLeNet, accuracy
from support.exported import Perceptron, exported, images
from support.worker_jobs import add_file, artifact, run_once

from jobs.schemas.report import Report
from worker import datasets
from worker.device import computing_device
from worker.resources import Resources

# The fresh process that opens the artifacts has no such device.
pytestmark = pytest.mark.usefixtures("unverified")

WISH = {"architecture": "lenet5", "dataset": "digits", "fit": {"steps": 5}, "fine_tune": {"epochs": 1}}


def test_an_accelerator_is_used_where_there_is_one() -> None:
    assert computing_device().type == NAME


@pytest.mark.parametrize(
    "settings",
    [
        {"compression": {"layers": ["conv2", "fc1"], "structure": {"depth": 2}}},
        {"compression": {"layers": [["fc1", "fc2"]], "target": {"parameters": 1500}, "gate_bits": 6}},
        {
            "compression": {"layers": ["fc1"], "structure": {"depth": 1}},
            "fine_tune": {"epochs": 1, "dense": "freeze", "accumulate": 2, "precision": "bfloat16"},
        },
        {"compression": {"target": {"max_accuracy_drop": 90}}, "search": {"max_trials": 2}},
    ],
    ids=["named layers", "planned for one ADTN of two layers", "frozen", "searched"],
)
def test_a_job_computes_on_the_accelerator(
    resources: Resources, checkpoint_id: str, tmp_path: Path, settings: dict[str, Any]
) -> None:
    job = run_once(resources, {"checkpoint": checkpoint_id, **WISH, **settings})
    assert job.status == "succeeded", job.error
    report = Report.model_validate(job.report)
    assert report.environment["device"] == NAME
    state = load_file(artifact(resources, job.id, "dense", tmp_path))
    model = DigitsLeNet()
    model.load_state_dict(state)
    data = datasets.load("digits", None, None)
    assert report.accuracy is not None
    assert report.accuracy.final == pytest.approx(accuracy(model.eval(), data.test_x, data.test_y), abs=1e-9)


def test_weights_alone_are_fitted_on_it(resources: Resources, checkpoint_id: str) -> None:
    settings = {"checkpoint": checkpoint_id, "compression": {"structure": {"depth": 1}}, "fit": {"steps": 5}}
    job = run_once(resources, settings)
    assert job.status == "succeeded", job.error
    assert Report.model_validate(job.report).environment["device"] == NAME


@pytest.mark.filterwarnings("ignore")  # torch's own, while it exports
def test_a_network_that_brings_its_graph_runs_on_it(resources: Resources, tmp_path: Path) -> None:
    torch.manual_seed(0)
    program, data = tmp_path / "model.pt2", tmp_path / "data.npz"
    program.write_bytes(exported(Perceptron().eval(), images(4)))
    samples, labels = images(60).numpy(), np.arange(60) % 10
    np.savez(data, train_x=samples, train_y=labels, test_x=samples[:20], test_y=labels[:20])
    settings = {
        "checkpoint": add_file(resources, program, "checkpoint"),
        "dataset": add_file(resources, data, "dataset"),
        "fit": {"steps": 5},
        "fine_tune": {"epochs": 1},
    }
    job = run_once(resources, settings)
    assert job.status == "succeeded", job.error
    assert Report.model_validate(job.report).environment["device"] == NAME

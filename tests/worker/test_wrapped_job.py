"""A job on a checkpoint with wrappers: layers go by their own names, artifacts by the names in the upload."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from support.digits import DigitsLeNet
from support.worker_jobs import add_file, artifact, run_once
from torch import nn

from adtn import decode, load
from jobs.schemas.report import Report
from worker.resources import Resources


def test_artifacts_have_the_keys_of_the_upload(resources: Resources, tmp_path: Path) -> None:
    torch.manual_seed(0)
    wrapped = nn.DataParallel(DigitsLeNet())
    path = tmp_path / "last.pt"
    torch.save({"epoch": 5, "model": wrapped.state_dict(), "ema": wrapped.state_dict()}, path)
    job = run_once(
        resources,
        {
            "checkpoint": add_file(resources, path, "checkpoint"),
            "architecture": "lenet5",
            "dataset": "digits",
            "compression": {"layers": ["fc1"], "structure": {"depth": 1}},
            "fit": {"steps": 5},
            "fine_tune": {"epochs": 1},
        },
    )
    assert job.status == "succeeded", job.error
    report = Report.model_validate(job.report)
    assert [layer.name for layer in report.parameters.layers] == ["fc1"]
    assert report.checkpoint is not None
    assert report.checkpoint.key_prefix == "module."
    assert "'model'; not from their running average in 'ema'" in report.checkpoint.notes[0]

    dense = load_file(artifact(resources, job.id, "dense", tmp_path))
    compressed = artifact(resources, job.id, "adtn", tmp_path)
    decoded = decode(compressed)
    assert dense.keys() == decoded.keys() == wrapped.state_dict().keys()
    assert all(torch.equal(dense[key], decoded[key]) for key in dense)
    wrapped.load_state_dict(dense)
    loaded = load(compressed, nn.DataParallel(DigitsLeNet()))
    inputs = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(loaded(inputs), wrapped(inputs))

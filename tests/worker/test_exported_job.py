"""Jobs on checkpoints that carry their graph: no architecture is named, and everything else is as ever."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.exported import Perceptron, Transformer, exported, images, seen, tokens
from support.worker_jobs import add_file, run_once

from adtn.prefix import split
from jobs.schemas.report import Report
from worker.graphs.build import build
from worker.resources import Resources

pytestmark = [
    pytest.mark.usefixtures("seeded"),
    pytest.mark.filterwarnings("ignore"),  # torch's own, while it exports
]

QUICK = {"fit": {"steps": 5}, "fine_tune": {"epochs": 1}}


def test_tokens_are_classified_in_batches_of_a_fixed_size(resources: Resources, tmp_path: Path) -> None:
    path, words = tmp_path / "words.pt2", tmp_path / "words.npz"
    path.write_bytes(exported(Transformer().eval(), tokens(8), any_batch=False))
    samples = tokens(60).numpy().astype(np.float32)
    labels = np.arange(60) % 10
    np.savez(words, train_x=samples, train_y=labels, test_x=samples[:21], test_y=labels[:21])
    settings = {
        "checkpoint": add_file(resources, path, "checkpoint"),
        "dataset": add_file(resources, words, "dataset"),
        **QUICK,
        "compression": {"layers": ["query", "encoder.layers.0.linear1"], "structure": {"depth": 1}},
    }
    job = run_once(resources, settings)
    assert job.status == "succeeded", job.error
    report = Report.model_validate(job.report)
    assert [(layer.name, layer.kind) for layer in report.parameters.layers] == [
        ("query", "linear"),
        ("encoder.layers.0.linear1", "linear"),
    ]
    assert "graph_fixed_batch" in {warning.code for warning in report.warnings}

    job = run_once(resources, {**settings, "exports": ["pt2"]})
    assert job.error["code"] == "export_impossible"
    assert "got one for 8" in job.error["detail"]


def test_samples_that_a_graph_does_not_take_are_refused(resources: Resources, tmp_path: Path) -> None:
    path, words = tmp_path / "words.pt2", tmp_path / "words.npz"
    path.write_bytes(exported(Transformer().eval(), tokens(4)))
    samples = np.full((10, 12), 20, np.float32)  # there are words 0 to 19
    np.savez(words, train_x=samples, train_y=np.arange(10), test_x=samples, test_y=np.arange(10))
    settings = {"checkpoint": add_file(resources, path, "checkpoint"), **QUICK}
    for dataset, says in (("digits", "samples of shape (12), got"), (add_file(resources, words, "dataset"), "0 to 19")):
        job = run_once(resources, {**settings, "dataset": dataset})
        assert job.status == "failed"
        assert job.error["code"] == "dataset_mismatch"
        assert says in job.error["detail"]


def test_data_need_a_network(resources: Resources, checkpoint_id: str) -> None:
    job = run_once(resources, {"checkpoint": checkpoint_id, "dataset": "digits"})
    assert job.status == "failed"
    assert "carries its graph" in job.error["detail"]


def test_what_comes_before_the_first_trained_weight_is_found_in_a_graph() -> None:
    program = seen(exported(Perceptron().eval(), images(4)))
    model = build(program.graph, program.state)
    model.get_submodule("fc1").requires_grad_(False)
    parts, inputs = split(model, images(4)), images(6)
    assert parts.shape == (32,)
    assert torch.equal(parts.rest(parts.prefix(inputs)), model(inputs))

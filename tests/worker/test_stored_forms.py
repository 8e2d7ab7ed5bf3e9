"""Dtypes and shared tensors of a checkpoint, from the upload to the artifacts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support.worker_jobs import add_file, artifact, run_once
from torch import Tensor

from adtn import decode
from jobs import files
from jobs.schemas.report import Report
from worker.resources import Resources


def run(
    resources: Resources, state: dict[str, Tensor], folder: Path, **settings: Any
) -> tuple[Report, dict[str, Tensor], dict[str, Tensor]]:
    """Upload a state dict as a .pt and run a job on it.

    Returns:
        Its report, the dense weights, and the tensors of the compressed file, which decodes to the dense weights.
    """
    path = folder / "m.pt"
    torch.save(state, path)
    file_id = add_file(resources, path, "checkpoint")
    shallow = {"compression": {"structure": {"depth": 1}}, "fit": {"steps": 5}}
    job = run_once(resources, {"checkpoint": file_id, **shallow, **settings})
    assert job.status == "succeeded", job.error
    report = Report.model_validate(job.report)
    assert report.parameters.original == files.get(resources.db, "local", file_id).parameters

    dense = load_file(artifact(resources, job.id, "dense", folder))
    compressed = artifact(resources, job.id, "adtn", folder)
    for tensors in (dense, decode(compressed)):
        assert {key: (t.dtype, t.shape) for key, t in tensors.items()} == {
            key: (t.dtype, t.shape) for key, t in state.items()
        }
        assert all(torch.equal(tensors[key], dense[key]) for key in dense)
    with safe_open(compressed, "pt") as file:
        return report, dense, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping


def test_dtypes_are_kept_and_shared_tensors_stay_equal(resources: Resources, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fused, embedding = torch.randn(90, 30), torch.randn(50, 48)
    state = {
        "f16.weight": torch.randn(40, 60).half(),
        "bf16.weight": torch.randn(40, 60).bfloat16(),
        "f64.weight": torch.randn(40, 60).double(),
        "f64.bias": torch.randn(40).double(),
        "steps": torch.tensor(3),
        **{"q.weight": fused[:30], "k.weight": fused[30:60], "v.weight": fused[60:]},
        **{"embedding.weight": embedding, "head.weight": embedding.T},
    }
    state |= {"tied.weight": state["f16.weight"]}
    report, dense, stored = run(resources, state, tmp_path)
    assert {layer.name for layer in report.parameters.layers} == {"f16", "bf16", "f64"}
    assert {key: stored[f"{key}.gates"].dtype for key in ("f16.weight", "bf16.weight", "f64.weight")} == {
        "f16.weight": torch.float32,
        "bf16.weight": torch.float32,
        "f64.weight": torch.float64,
    }
    assert not [key for key in stored if key.startswith("tied")]
    assert torch.equal(dense["tied.weight"], dense["f16.weight"])
    assert torch.equal(dense["head.weight"], dense["embedding.weight"].T)
    assert report.parameters.original == 3 * 2400 + 40 + 2700 + 2400


@pytest.mark.parametrize("architecture", [None, "fc2"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_layer_is_encoded_where_that_makes_the_file_smaller(
    resources: Resources, tmp_path: Path, dtype: torch.dtype, architecture: str | None
) -> None:
    torch.manual_seed(0)
    # Of 640 entries; brick-walls of 3-site gates and 2 TN layers have 568 numbers.
    state = {"fc1.weight": torch.randn(64, 64), "fc1.bias": torch.zeros(64)}
    state |= {"fc2.weight": torch.randn(10, 64), "fc2.bias": torch.zeros(10)}
    wish = {"compression": {"layers": ["*"], "structure": {"depth": 2, "gate_sites": 3}}, "architecture": architecture}
    report, dense, stored = run(resources, {key: tensor.to(dtype) for key, tensor in state.items()}, tmp_path, **wish)
    encoded = {layer.name for layer in report.parameters.layers}
    assert encoded == ({"fc1"} if dtype == torch.float16 else {"fc1", "fc2"})
    assert all(stored[f"{name}.weight.gates"].nbytes < dense[f"{name}.weight"].nbytes for name in encoded)


def test_a_tied_weight_is_trained_as_one(resources: Resources, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shared = (torch.randn(64, 64) / 8).half()
    bias = torch.zeros(64, dtype=torch.float16)
    state = {"fc1.weight": shared, "fc1.bias": bias, "fc2.weight": shared, "fc2.bias": bias.clone()}
    wish = {"architecture": "fc2", "dataset": "digits", "fine_tune": {"epochs": 1}}
    report, dense, stored = run(resources, state, tmp_path, **wish)
    assert report.parameters.original == 64 * 64 + 128
    assert stored.keys() == {"fc1.weight.gates", "fc1.bias", "fc2.bias"}
    assert torch.equal(dense["fc1.weight"], dense["fc2.weight"])

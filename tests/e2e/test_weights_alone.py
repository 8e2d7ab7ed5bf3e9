"""Without an architecture or data there is nothing to train on: weights are fitted, and the report says so."""

from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load as load_bytes
from support.api import artifact, create, succeeded, upload
from torch import nn

pytestmark = [pytest.mark.e2e, pytest.mark.redis]


class EveryKind(nn.Module):
    """One weight of each kind, a bare parameter, tied weights, and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1d = nn.Conv1d(8, 16, 5)
        self.conv3d = nn.Conv3d(4, 8, 3)
        self.up = nn.ConvTranspose2d(16, 8, 4)
        self.tokens = nn.Embedding(50, 32)
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.tokens.weight
        self.norm = nn.BatchNorm1d(16)
        self.position = nn.Parameter(torch.randn(1, 40, 32))


def test_every_kind_of_weight_is_encoded_and_tied_ones_once(api: httpx.Client, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = EveryKind()
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    file = upload(api, path)
    assert file["status"] == "ready"
    names = ["conv1d", "conv3d", "up", "tokens", "position"]
    job = succeeded(api, create(api, checkpoint=file["id"], compression={"layers": names}, fit={"steps": 30})["id"])

    report = job["report"]
    assert report["accuracy"] is None
    assert report["accuracy_unverified"] is True
    assert {row["name"] for row in report["parameters"]["layers"]} == set(names)
    assert report["parameters"]["original"] == sum(p.numel() for p in model.parameters())

    dense = load_bytes(artifact(api, job["id"], "model.dense.safetensors"))
    expected = model.state_dict()
    assert {key: (t.shape, t.dtype) for key, t in dense.items()} == {
        key: (t.shape, t.dtype) for key, t in expected.items()
    }
    assert torch.equal(dense["head.weight"], dense["tokens.weight"])
    assert not torch.equal(dense["tokens.weight"], expected["tokens.weight"])
    assert torch.equal(dense["norm.running_mean"], expected["norm.running_mean"])
    for row in report["parameters"]["layers"]:
        key = row["name"] if row["name"] == "position" else f"{row['name']}.weight"
        error = torch.linalg.vector_norm(dense[key] - expected[key]) / torch.linalg.vector_norm(expected[key])
        assert row["relative_error"] == pytest.approx(float(error), abs=1e-4)

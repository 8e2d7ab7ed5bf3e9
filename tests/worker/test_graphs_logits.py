"""Graphs that end with a sigmoid or a softmax are fine-tuned on what enters it."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.exported import exported, seen
from support.worker_jobs import add_file, run_once
from torch import Tensor, nn

from worker.graphs.build import build
from worker.graphs.logits import giving_logits
from worker.graphs.model import GraphModel
from worker.resources import Resources

pytestmark = [
    pytest.mark.usefixtures("seeded"),
    pytest.mark.filterwarnings("ignore"),  # torch's own, while it exports
]


class Shares(nn.Module):
    def __init__(self, ending: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.hidden, self.fc, self.ending = nn.Linear(16, 32), nn.Linear(32, 5), ending

    def logits(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.hidden(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.ending(self.logits(x))


def graph_of(model: nn.Module) -> GraphModel:
    program = seen(exported(model.eval(), torch.rand(4, 16)))
    return build(program.graph, program.state | program.constants).eval()


@pytest.mark.parametrize(
    ("ending", "classes"),
    [
        (torch.sigmoid, "independent"),
        (torch.sigmoid_, "independent"),
        (lambda x: x.softmax(1), "exclusive"),
        (lambda x: torch.softmax(x, dim=-1), "exclusive"),
    ],
    ids=["sigmoid", "in-place", "softmax", "last-dimension"],
)
def test_the_last_step_is_left_out_within_the_block_alone(ending: Callable[[Tensor], Tensor], classes: str) -> None:
    model, inputs = Shares(ending), torch.rand(6, 16)
    found = graph_of(model)
    teacher = copy.deepcopy(found)
    with giving_logits(found, teacher, None) as named:
        assert named == classes
        assert torch.equal(found(inputs), model.logits(inputs))
        assert torch.equal(teacher(inputs), model.logits(inputs))
    assert torch.equal(found(inputs), model(inputs))
    assert torch.equal(teacher(inputs), model(inputs))


@pytest.mark.parametrize(
    "ending",
    [
        lambda x: x,
        lambda x: x.log_softmax(1),
        lambda x: x.softmax(0),
        lambda x: x.sigmoid() + 1,
    ],
    ids=["logits", "log", "over-the-batch", "not-last"],
)
def test_other_endings_stay(ending: Callable[[Tensor], Tensor]) -> None:
    model, inputs = Shares(ending), torch.rand(6, 16)
    found = graph_of(model)
    with giving_logits(found, nn.Identity()) as classes:
        assert classes == "exclusive"
        assert torch.equal(found(inputs), model(inputs))


@pytest.mark.usefixtures("unverified")
def test_shares_that_have_run_into_the_end_are_trained_away_from_it(resources: Resources, tmp_path: Path) -> None:
    """In float32 a sigmoid is 1 from a logit of 17 on, where it has no gradient."""
    means = 4 * torch.randn(5, 16)
    labels = torch.arange(400) % 5
    inputs = means[labels] + torch.randn(400, 16)
    model = Shares(torch.sigmoid)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model.logits(inputs), labels).backward()
        optimiser.step()
    with torch.no_grad():
        model.fc.bias += 60
    (tmp_path / "model.pt2").write_bytes(exported(model.eval(), inputs[:4]))
    arrays = {"x": inputs.numpy(), "y": labels.numpy().astype(np.int64)}
    np.savez(
        tmp_path / "data.npz",
        **{f"{split}_{name}": array for split in ("train", "test") for name, array in arrays.items()},
    )
    settings = {
        "checkpoint": add_file(resources, tmp_path / "model.pt2", "checkpoint"),
        "dataset": add_file(resources, tmp_path / "data.npz", "dataset"),
        "compression": {"layers": ["hidden"], "structure": {"depth": 1}},
        "fine_tune": {"epochs": 20, "learning_rate": 0.05, "batch_size": 50, "distill": False},
    }
    job = run_once(resources, settings)
    assert job.status == "succeeded", job.error
    assert job.report["accuracy"]["after_fit"] < 0.3
    assert job.report["accuracy"]["final"] > 0.9

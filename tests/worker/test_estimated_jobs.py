"""What an estimate counts, compared with what jobs do: the samples that are evaluated, and the bytes of data."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.worker_jobs import run_once
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from adtn import moments
from jobs import files
from jobs.schemas.settings import JobSettings
from service import estimates, fine_tuning
from service.estimated_memory import loading_bytes
from service.fine_tuning import tuning
from service.planning import plans_for
from worker import datasets, evaluation
from worker.examination import Examination, Question
from worker.pipeline import heldout
from worker.resources import Resources

WISH = {
    **{"architecture": "lenet5", "dataset": "digits", "fit": {"steps": 2}},
    "compression": {"layers": ["fc1", "fc2"], "structure": {"depth": 1}},
}
SEARCH: dict[str, Any] = {
    "compression": {"layers": ["fc1", "fc2"], "structure": {}, "target": {"max_accuracy_drop": 100}},
    "search": {"max_trials": 2, "max_minutes": 600},
}
TEACHER = {"epochs": 0, "teacher_epochs": 1}


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Samples that come to the last layer of a LeNet-5 without a gradient, call by call; artifacts are opened here."""
    seen: list[int] = []

    def watch(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, nn.Linear) and module.out_features == 10 and not torch.is_grad_enabled():
            seen.append(len(inputs[0]))

    def verify(question: Question, *_: object) -> dict[str, object]:
        examination = Examination(question)
        for kind in question.artifacts:
            examination.open(kind)
        return {"fresh_process": False}

    monkeypatch.setattr("worker.pipeline.run.verify", verify)
    handle = nn.modules.module.register_module_forward_pre_hook(watch)
    yield seen
    handle.remove()


@pytest.mark.parametrize(
    "wish",
    [
        {"fine_tune": {"epochs": 0}},
        {"fine_tune": {"epochs": 0}, "exports": ["dense", "dense_pt"]},
        {"fine_tune": TEACHER},
        {"fine_tune": {"epochs": 1, "distill": False}},
        {"fine_tune": {"epochs": 0}, **SEARCH},
        {"fine_tune": TEACHER, **SEARCH},
    ],
    ids=["plain", "exports", "teacher", "fine-tuning", "search", "search-teacher"],
)
def test_every_evaluation_of_a_job_is_counted(
    wish: dict[str, Any],
    resources: Resources,
    checkpoint_id: str,
    evaluated: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = {"checkpoint": checkpoint_id, **WISH, **wish}
    job = run_once(resources, body)
    assert job.status == "succeeded", job.error

    settings, checkpoint = JobSettings.model_validate(body), files.get(resources.db, "local", checkpoint_id)
    plans = plans_for(settings.compression, checkpoint)
    work = tuning(settings, plans[-1], checkpoint, None)
    fast = estimates.estimate(settings, plans, checkpoint, None)
    monkeypatch.setattr(estimates, "OPERATIONS_A_SECOND", work.forward)  # a second for each sample
    slow = estimates.estimate(settings, plans, checkpoint, None)
    epochs = settings.fine_tune.epochs + settings.fine_tune.teacher_epochs
    counted = slow.seconds - fast.seconds - 3 * work.samples * epochs  # forward, and backward twice
    # A few samples of each kind tell how many a network can be given at a time, and whether it can be trained.
    assert counted <= sum(evaluated) <= 1.03 * counted
    if slow.search is not None and fast.search is not None:
        assert len(job.report["search"]["trials"]) == slow.search.trials == 2
        a_trial = 2 * job.report["search"]["heldout_samples"]
        assert slow.search.seconds_a_trial - fast.search.seconds_a_trial == pytest.approx(a_trial, abs=0.2)


def test_the_service_knows_how_many_samples_the_worker_looks_at() -> None:
    assert estimates.MOMENT_SAMPLES == moments.MAX_SAMPLES
    assert estimates.MOST_JUDGING == evaluation.JUDGING
    assert fine_tuning.MOST_HELD_OUT == heldout.MAX_SAMPLES
    calls: list[int] = []
    evaluation.latency_ms(lambda: calls.append(1))
    assert 2 * len(calls) == estimates.LATENCY_SAMPLES


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes that tensors made by operations have taken at a time; views take none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            storage = tensor.untyped_storage()._cdata if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage not in self._live:
                self._live[storage] = tensor.untyped_storage().nbytes()
                weakref.finalize(tensor, self._live.pop, storage, None)
        self.peak = max(self.peak, sum(self._live.values()))
        return result


@pytest.mark.parametrize("normalize", [None, {"mean": [0.5], "std": [0.2]}], ids=["plain", "normalize"])
def test_the_data_are_counted_as_they_are_loaded(normalize: dict[str, list[float]] | None, tmp_path: Path) -> None:
    splits = {"train": 800, "val": 50, "test": 150}
    tensors = {f"{split}_x": torch.zeros(count, 1, 16, 16, dtype=torch.uint8) for split, count in splits.items()}
    labels = {f"{split}_y": torch.zeros(count, dtype=torch.int64) for split, count in splits.items()}
    save_file(tensors | labels, tmp_path / "data.safetensors")
    with LiveBytes() as live:
        datasets.load(tmp_path / "data.safetensors", normalize)
    settings = JobSettings.model_validate({"checkpoint": f"file_{0:032}", "normalize": normalize})
    counted = loading_bytes(settings, {split: 4 * 256 * count for split, count in splits.items()})
    assert live.peak <= counted * 1.05  # the labels besides, and the 8-bit images of one split
    assert counted <= live.peak * 1.1

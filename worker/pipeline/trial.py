"""One trial of a search, and the trials of a job that are kept for a later attempt at it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import adtn
from adtn.plan import Plan
from jobs import records
from worker.pipeline.attempt import Attempt
from worker.pipeline.fit import FIT_VERSION

# Part of every key: raise it when the same trial would end in another way, or is written down in another form.
TRIAL_VERSION = 1


@dataclass(frozen=True)
class Trial:
    """One size and what it came to.

    Attributes:
        parameters: Numbers of the whole model.
        ratio: How many times smaller it is.
        encoded_parameters: Numbers of the encoded layers.
        heldout_accuracy: Share of the held-out samples that are right; None if training diverged.
        drop: Percentage points below the original on the same samples, or, if fine-tuned, below the original trained
            further likewise; None likewise.
        seconds: That the trial took.
        kept: Whether it keeps the promise.
        loss_rose: Whether training made it worse.
        fine_tuned: Whether it counts as it was trained; False where it is better as it was fitted.
    """

    parameters: int
    ratio: float
    encoded_parameters: int
    heldout_accuracy: float | None
    drop: float | None
    seconds: float
    kept: bool
    loss_rose: bool
    fine_tuned: bool

    def __str__(self) -> str:
        size = f"{self.parameters:,} numbers (a ratio of {self.ratio:g})"
        if self.drop is None:
            return f"{size}: training diverged"
        return f"{size}: {self.drop:g} points below" + (", and training made it worse" if self.loss_rose else "")


class KeptTrials:
    """What has ended of a search, in the store under the job's own prefix, so that it goes when the job is deleted.

    A trial may take an hour. An attempt that a lost machine or a new release has cut short is followed by another,
    which goes on after the last trial that ended.

    Args:
        attempt: The job.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._folder = f"{records.folder(attempt.job.id)}/trials"
        self._store = attempt.store
        self._path: Path = attempt.folder / "trial.json"
        self._device = next(iter(attempt.weights.values())).device.type

    def find(self, plan: Plan) -> tuple[Trial, float | None] | None:
        """The trial of a plan and the control's accuracy, if that trial has ended."""
        if not self._store.get_to_file(self._key(plan), self._path, missing_ok=True):
            return None
        kept = json.loads(self._path.read_text())
        return Trial(**kept["trial"]), kept["control"]

    def keep(self, plan: Plan, trial: Trial, control: float | None) -> None:
        """Keep a trial that has ended.

        Args:
            plan: What was tried.
            trial: What it came to.
            control: Accuracy of the original that was trained likewise, if it was measured.
        """
        self._path.write_text(json.dumps({"trial": asdict(trial), "control": control}))
        self._store.put_file(self._key(plan), self._path)

    def _key(self, plan: Plan) -> str:
        """Names all that a trial depends on; files and settings of a job never change."""
        parts = [TRIAL_VERSION, FIT_VERSION, adtn.__version__, torch.__version__, self._device, plan.to_json()]
        return f"{self._folder}/{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}.json"

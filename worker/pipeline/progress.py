"""How far a job is: stages with their share of the whole, an estimate of what remains, and the place to stop."""

import time
from collections.abc import Callable, Mapping
from typing import Literal

from jobs.leases import Progress
from jobs.planning import is_measured, is_searched
from jobs.schemas.settings import CompressionSettings, JobSettings
from jobs.states import Stage

# The share of a job's time that a stage usually takes; only the progress bar and the estimate of the end depend on it.
SHARES: dict[Stage, float] = {
    "inspect": 0.05,
    "plan": 0.01,
    "fit": 0.20,
    "fine_tune": 0.55,
    "evaluate": 0.05,
    "export": 0.02,
    "verify": 0.12,
}

# The stage `plan` where it measures the layers, and where it tries sizes besides, next to the shares above.
MEASURING_SHARE = 0.2
SEARCHING_SHARE = 4.0

Kind = Literal["stage", "step"]


def shares_of(settings: JobSettings) -> dict[Stage, float]:
    """The share of each stage in a job with these settings; together they are 1."""
    shares = {**SHARES, "plan": _correcting(settings) + _choosing(settings.compression)}
    return {stage: share / sum(shares.values()) for stage, share in shares.items()}


def correcting_share(settings: JobSettings) -> float:
    """The part of the stage `plan` in which the original is trained further, from 0 to 1."""
    correcting = _correcting(settings)
    return correcting / (correcting + _choosing(settings.compression))


def _correcting(settings: JobSettings) -> float:
    """Next to the shares above: an epoch of the original takes about as long as one of the compressed model."""
    wish = settings.fine_tune
    return SHARES["fine_tune"] * wish.teacher_epochs / max(1, wish.epochs) if settings.dataset is not None else 0.0


def _choosing(settings: CompressionSettings) -> float:
    """Likewise, what the rest of the stage takes."""
    measuring = MEASURING_SHARE if is_measured(settings) else 0
    searching = SEARCHING_SHARE if is_searched(settings) else 0
    return SHARES["plan"] + measuring + searching


def within(on_step: Callable[[float, str], None], start: float, stop: float) -> Callable[[float, str], None]:
    """Where a stage has parts: what the part from `start` to `stop` of it calls with its own share done."""
    return lambda done, message: on_step(start + (stop - start) * done, message)


class ProgressReporter:
    """Turns steps of stages into progress of the job.

    Args:
        publish: Receives each progress that is worth writing and whether a new stage began with it.
        check: Called at every step; raises when the job should not go on.
        shares: Of the stages in the whole.
        interval_s: Least time between two progresses of one stage.
    """

    def __init__(
        self,
        publish: Callable[[Progress, Kind], None],
        check: Callable[[], None],
        *,
        shares: Mapping[Stage, float] = SHARES,
        interval_s: float = 0.5,
    ) -> None:
        self._publish = publish
        self._check = check
        self._shares = shares
        self._interval_s = interval_s
        self._started = time.monotonic()
        self._last = 0.0
        self._stage: Stage = "inspect"
        self._part: Callable[[float, str], None] = self._send_step

    def stage(self, stage: Stage, message: str, start: float = 0.0, stop: float = 1.0) -> None:
        """Begin a stage, or the part of it from `start` to `stop`."""
        self._check()
        self._stage = stage
        self._part = within(self._send_step, start, stop)
        self._send(start, message, "stage")

    def step(self, fraction: float, message: str) -> None:
        """Tell how much of the stage, or of its part, is done, 0 to 1, and stop here if the job should not go on."""
        self._check()
        if time.monotonic() - self._last >= self._interval_s:
            self._part(fraction, message)

    def _send_step(self, stage_fraction: float, message: str) -> None:
        self._send(stage_fraction, message, "step")

    def _send(self, stage_fraction: float, message: str, kind: Kind) -> None:
        stages = list(self._shares)
        before = sum(self._shares[stage] for stage in stages[: stages.index(self._stage)])
        fraction = before + self._shares[self._stage] * stage_fraction
        elapsed = time.monotonic() - self._started
        self._last = time.monotonic()
        self._publish(
            Progress(
                stage=self._stage,
                stage_fraction=round(stage_fraction, 4),
                fraction=round(fraction, 4),
                eta_seconds=round(elapsed * (1 - fraction) / fraction, 1) if fraction > 0.02 else None,
                message=message,
            ),
            kind,
        )

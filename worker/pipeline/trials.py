"""The trials of a search: each compresses the model to one size as the job does, and measures it on held-out data."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from torch import nn

from adtn import FineTuned
from adtn.errors import TrainingDiverged
from adtn.moments import InputMoments
from adtn.plan import Plan
from jobs.planning import most_trials
from jobs.problems import Fault, ProblemError
from worker.datasets import Dataset
from worker.evaluation import HARM, share_of_commonest, top1
from worker.pipeline.attempt import Attempt
from worker.pipeline.compress import encode, fine_tune
from worker.pipeline.evaluate import network_of
from worker.pipeline.heldout import Parts
from worker.pipeline.kept import Kept
from worker.pipeline.progress import within
from worker.pipeline.search import Found, OutOfTime, in_time, smallest_that_keeps

POINTER = "/compression/target/max_accuracy_drop"
CONTROL, ENDED = "control", "ended"
"""Name what is kept of a search: what its trials are compared with, and that its time is up."""
ROUNDING = 1e-9  # in percentage points: a drop of exactly the promised size keeps the promise


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
        loss_rose: Whether training made it worse, or diverged.
        collapsed: Whether it came to nothing: it diverged, or the loss rose and the model is right on hardly more
            samples than are of the commonest class.
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
    collapsed: bool
    fine_tuned: bool

    def __str__(self) -> str:
        size = f"{self.parameters:,} numbers (a ratio of {self.ratio:g})"
        if self.drop is None:
            return f"{size}: training diverged"
        worse = ", and training made it worse" if self.loss_rose else ""
        return f"{size}: {self.heldout_accuracy:.2%} right, {self.drop:g} points below{worse}"


@dataclass(frozen=True)
class Measured:
    """What a compressed model came to on held-out data.

    Attributes:
        accuracy: Of the model as it was trained or as it was fitted, whichever counts; None if neither does.
        tuned: What the training took; None if the model counts as it was fitted.
        loss_rose: Whether the training made the model worse, or it or the fit diverged.
        collapsed: Whether it came to nothing.
    """

    accuracy: float | None
    tuned: FineTuned | None
    loss_rose: bool
    collapsed: bool = False


class Trials:
    """Runs trials and remembers them: also those that an earlier attempt at the job has ended.

    Args:
        attempt: The job; its model stays as it is.
        plans: The sizes, from the smallest model upwards.
        parts: Which samples train, and which are held out.
        moments: For the fits.
        teacher: Whose outputs are imitated, or None.
        on_step: Called with the share of the search done and a message.
        started: When the time that the search may take began, on the monotonic clock.
    """

    def __init__(
        self,
        attempt: Attempt,
        plans: Sequence[Plan],
        parts: Parts,
        moments: Mapping[str, InputMoments],
        teacher: nn.Module | None,
        on_step: Callable[[float, str], None],
        started: float,
    ) -> None:
        assert attempt.inputs.dataset is not None
        target = attempt.job.settings.compression.target
        assert target is not None
        assert target.max_accuracy_drop is not None
        self.max_drop = target.max_accuracy_drop
        self.caps = attempt.job.settings.search
        self.done: list[Trial] = []
        self._attempt = attempt
        self._plans = plans
        self._dataset: Dataset = attempt.inputs.dataset
        self._parts = parts
        self._moments = moments
        self._teacher = teacher
        self._on_step = on_step
        self._most = most_trials(len(plans), self.caps.max_trials)
        self._original = attempt.job.checkpoint.parameters
        self._kept, self._kept_besides = Kept(attempt, "trials"), Kept(attempt, "search")
        self._started = started
        self._found: Found | None = None
        self._commonest = share_of_commonest(parts.heldout_y)
        original = self._upload() if attempt.job.settings.fine_tune.teacher_epochs else attempt.inputs.model
        self.baseline = self._accuracy(original, lambda done, message: on_step(0.0, message))
        self.control: float | None = None
        self.harmed = False

    def search(self) -> tuple[Plan, Trial]:
        """The plan of the smallest model that keeps the promise, and its trial.

        Raises:
            ProblemError: accuracy_not_kept, with the best that was found, and every trial.
        """
        found = self._found = smallest_that_keeps(len(self._plans), self._keeps, self.caps.max_trials, self._is_last)
        if found.ended_by == "minutes":
            self._kept_besides.keep(ENDED, found.ended_by)
        if found.size is None:
            detail = self._failure()
            trials = [Fault(POINTER, f"trial of {trial}", "trial") for trial in self.done]
            raise ProblemError("accuracy_not_kept", detail, [Fault(POINTER, detail, "accuracy_not_kept"), *trials])
        plan = self._plans[found.size]
        return plan, next(trial for trial in self.done if trial.parameters == self._parameters(plan))

    def to_json(self) -> dict[str, object]:
        """The report's `search`, of one that has found a size."""
        assert self._found is not None
        return {
            "max_accuracy_drop": self.max_drop,
            "baseline_heldout_accuracy": self.baseline,
            "control_heldout_accuracy": self.control,
            "control_harmed": self.harmed,
            "commonest_heldout_share": self._commonest,
            "heldout_samples": len(self._parts.heldout_y),
            "heldout_split": self._parts.heldout_split,
            "trials": [asdict(trial) for trial in self.done],
            "ended_by": self._found.ended_by,
            "smaller_untried": self._found.untried,
        }

    def _keeps(self, size: int) -> bool | None:
        """Try a size; None where training came to nothing."""
        plan = self._plans[size]
        if self.control is None:
            self._compare_with_control(self._step_of(plan))
        trial = self._recalled(plan) or self._tried(plan)
        self.done.append(trial)
        return None if trial.collapsed and not trial.kept else trial.kept

    def _is_last(self) -> bool:
        """Whether there is no time for two more trials that take as long as the longest.

        It is kept: an attempt that goes on, by a clock of its own, has to come to the same trials.
        """
        if not self.done:
            return False
        subject = ["last", len(self.done)]
        is_last = self._kept_besides.find(subject)
        if is_last is None:
            left = self._started + 60 * self.caps.max_minutes - time.monotonic()
            is_last = left < 2 * max(trial.seconds for trial in self.done)
            self._kept_besides.keep(subject, is_last)
        return bool(is_last)

    def _recalled(self, plan: Plan) -> Trial | None:
        """The trial of an earlier attempt, which has taken some of the search's minutes."""
        kept = self._kept.find(plan.to_json())
        if kept is None:
            return None
        trial = Trial(**kept)
        self._started -= trial.seconds
        return trial

    def _tried(self, plan: Plan) -> Trial:
        """Run a trial.

        Raises:
            OutOfTime: The search's time is up, or was in an earlier attempt, in which a trial was then cut short.
        """
        if self._kept_besides.find(ENDED):
            raise OutOfTime
        started = time.monotonic()
        found = self._compressed(plan)
        drop = None if found.accuracy is None else self._drop(found.accuracy, found.tuned)
        parameters = self._parameters(plan)
        trial = Trial(
            parameters=parameters,
            ratio=round(self._original / parameters, 2),
            encoded_parameters=plan.parameters,
            heldout_accuracy=found.accuracy,
            drop=None if drop is None else round(drop, 4),
            seconds=round(time.monotonic() - started, 3),
            kept=drop is not None and drop <= self.max_drop + ROUNDING,
            loss_rose=found.loss_rose,
            collapsed=found.collapsed,
            fine_tuned=found.accuracy is None or found.tuned is not None,
        )
        self._kept.keep(plan.to_json(), asdict(trial))
        return trial

    def _parameters(self, plan: Plan) -> int:
        """Numbers of the whole model: no two plans have as many, though their encoded layers may."""
        return self._original - plan.saved

    def _drop(self, accuracy: float, tuned: FineTuned | None) -> float:
        """Percentage points below the original, as it is or as it is without having seen the held-out samples."""
        original = self.control if tuned is not None and self.control is not None else self.baseline
        return 100 * (original - accuracy)

    def _compressed(self, plan: Plan) -> Measured:
        """Fit, fine-tune on what is not held out, measure on what is.

        Whichever is nearer to the original counts, as fitted or as trained. A fit or a training that diverges counts
        for nothing: another size may well be fitted and trained. Gates in few bits are nothing without training.
        """
        step, settings = self._step_of(plan), self._attempt.job.settings
        model = copy.deepcopy(self._attempt.inputs.model)
        try:
            encode(model, plan, self._moments, self._attempt, within(step, 0.0, 0.2))
        except TrainingDiverged:
            return Measured(None, None, loss_rose=True, collapsed=True)
        fitted: float | None = None
        if settings.compression.gate_bits is None:  # else the gates are rounded in training
            fitted = self._accuracy(model, within(step, 0.2, 0.25))
        try:
            tuned = self._train(model, within(step, 0.25, 0.95))
        except TrainingDiverged:
            return Measured(fitted, None, loss_rose=True, collapsed=True)
        trained = self._accuracy(model, within(step, 0.95, 1.0))
        # An original that is no better than that says nothing of a training.
        collapsed = tuned.loss_rose and trained <= self._commonest + HARM < self.baseline
        if fitted is None or self._drop(trained, tuned) <= self._drop(fitted, None):
            return Measured(trained, tuned, tuned.loss_rose, collapsed)
        return Measured(fitted, None, tuned.loss_rose, collapsed)

    def _compare_with_control(self, step: Callable[[float, str], None]) -> None:
        """Measure the control, or take over what an earlier attempt has measured, with its minutes."""
        kept = self._kept_besides.find(CONTROL)
        if kept is None:
            started = time.monotonic()
            self.control = self._control(step)
            seconds = time.monotonic() - started
            self._kept_besides.keep(CONTROL, {"accuracy": self.control, "harmed": self.harmed, "seconds": seconds})
        else:
            self.control, self.harmed = kept["accuracy"], kept["harmed"]
            self._started -= kept["seconds"]

    def _control(self, step: Callable[[float, str], None]) -> float:
        """What the original has on the held-out samples without having seen them: trained further as trials are.

        An original usually knows its training data by heart, the held-out samples among them. Training without them
        makes it forget, and a compressed model as well: that is no loss by compression, and none on new data. Of a
        validation split it knows nothing, so there it counts as it is.
        """
        settings = self._attempt.job.settings.fine_tune
        if self._parts.heldout_split == "val":
            return self.baseline

        def on_step(_done: float, message: str) -> None:
            step(0.0, f"the original, to compare with: {message}")

        if settings.epochs == 0 or settings.dense == "freeze":  # nothing but gates is trained
            if settings.teacher_epochs:  # but the original was, before
                return self._without_held_out(self._attempt.inputs.model, on_step)
            return self.baseline
        model = copy.deepcopy(self._attempt.inputs.model)
        try:
            tuned = self._train(model, on_step)
        except TrainingDiverged:
            self.harmed = True
            return self.baseline
        control = self._without_held_out(model, on_step)
        # A loss that rose, of samples that the original knew by heart, tells of harm only where it has lost these too.
        return self.baseline if tuned.loss_rose and self.harmed else control

    def _without_held_out(self, model: nn.Module, on_step: Callable[[float, str], None]) -> float:
        """The original's accuracy without the held-out samples, from a model that was trained on all others.

        What it is worse by on samples that it was not trained on, it has forgotten; what it is worse by on both, a
        training that does harm has taken from it, which excuses nothing.
        """
        samples, labels = self._dataset.train_x, self._dataset.train_y
        seen = self._parts.train[: len(self._parts.heldout_y)]
        heldout = self._accuracy(model, on_step)
        trained = top1(model, samples[seen], labels[seen], lambda done: on_step(done, "evaluating"))
        forgotten = max(0.0, trained - heldout)
        self.harmed = self.baseline - forgotten - heldout > HARM
        return min(self.baseline, max(heldout, self.baseline - forgotten))

    def _train(self, model: nn.Module, on_step: Callable[[float, str], None]) -> FineTuned:
        """Fine-tune on what is not held out."""
        return fine_tune(model, self._parts.samples(self._dataset), self._attempt.job.settings, self._teacher, on_step)

    def _step_of(self, plan: Plan) -> Callable[[float, str], None]:
        """What a trial calls at each step: it tells the whole search's progress, and ends it when time is up."""
        number = len(self.done)
        most = max(self._most, number + 1)  # where training comes to nothing again and again there are a few more

        def step(done: float, message: str) -> None:
            text = f"trial {number + 1} of at most {most}, {plan.parameters:,} numbers: {message}"
            self._on_step((number + done) / most, text)

        return in_time(step, self._started + 60 * self.caps.max_minutes)

    def _upload(self) -> nn.Module:
        """The original as it was uploaded; the attempt's model has been trained further."""
        inputs = self._attempt.inputs
        device = next(inputs.model.parameters()).device
        return network_of(inputs.blueprint, inputs.state, self._dataset, device)

    def _accuracy(self, model: nn.Module, on_step: Callable[[float, str], None]) -> float:
        samples, labels = self._parts.heldout_x, self._parts.heldout_y
        return top1(model, samples, labels, lambda done: on_step(done, "evaluating on held-out samples"))

    def _failure(self) -> str:
        """Why there is no answer, and what came closest."""
        original = f"{self.baseline:.2%}"
        if self.control is not None and self.control != self.baseline:
            original = f"{self.control:.2%}, the original trained likewise (as it is and trials as fitted, {original})"
        held = len(self._parts.heldout_y)
        asked = (
            f"max_accuracy_drop: expected at most {self.max_drop:g} points below {original}, "
            f"on {held:,} held-out sample{'s' * (held != 1)}"
        )
        if not self.done:
            return f"{asked}, but no trial ended within {self.caps.max_minutes:g} minutes; raise search.max_minutes"
        measured = [(trial.drop, trial.parameters, trial.ratio) for trial in self.done if trial.drop is not None]
        if not measured:
            return f"{asked}, but training diverged in each of {len(self.done)} trials; use a smaller learning rate"
        drop, parameters, ratio = min(measured)
        tried = f"the best of {len(self.done)} trials" if len(self.done) > 1 else "the only trial"
        return (
            f"{asked}, but {tried} is {drop:g} points below, at {parameters:,} numbers (a ratio of {ratio:g}); "
            f"{self._advice()}"
        )

    def _advice(self) -> str:
        """What may help a search in vain."""
        advice = ["allow a larger drop"]
        if all(trial.parameters != self._parameters(self._plans[-1]) for trial in self.done):
            advice.append(f"raise search.max_minutes, {self.caps.max_minutes:g}: the largest size was not tried")
        else:
            advice.append("allow more epochs of fine-tuning")
            if self._attempt.job.settings.compression.structure != "auto":
                advice.append("leave the structure to 'auto': there is no larger size of this one")
        if self.harmed:
            advice.append("use a smaller learning rate: this one harms the original too")
        elif any(trial.loss_rose for trial in self.done):
            advice.append("use a smaller learning rate")
        return "; or ".join(advice)

"""Stage `fine_tune`: the fitted model is trained.

A training that does it harm is not kept: after a search, that of the trial takes its place; without one, the model is
left as it was fitted. One that diverges without a search fails the job: all there is then is what was fitted, which is
kept for a job with a smaller rate.
"""

import copy
from typing import Literal

from torch import Tensor, nn

import adtn
from adtn.errors import TrainingDiverged
from worker.datasets import Dataset
from worker.evaluation import HARM, Samples, drawn, right_of
from worker.pipeline.attempt import Attempt
from worker.pipeline.caveats import trained_as_tried, tuning_undone
from worker.pipeline.choose import Chosen
from worker.pipeline.compress import fine_tune
from worker.pipeline.evaluate import change_of
from worker.pipeline.heldout import parts_of
from worker.pipeline.report import Measurements
from worker.weights import restore


def tune(
    attempt: Attempt,
    chosen: Chosen,
    fitted: dict[str, adtn.ADTN],
    teacher: nn.Module | None,
    measured: Measurements,
) -> dict[str, adtn.ADTN]:
    """Fine-tune the attempt's model.

    Args:
        attempt: The job; its model is trained, or replaced by one that is.
        chosen: What was chosen, and how.
        fitted: The ADTNs in the model.
        teacher: Whose outputs are imitated, or None.
        measured: Receives what it took.

    Returns:
        The ADTNs that are in the model now.

    Raises:
        TrainingDiverged: The training has come to nothing, and no trial says how else to train.
    """
    if chosen.search is not None:
        return _tune_after_search(attempt, chosen, fitted, teacher, measured)
    settings = attempt.job.settings
    if not settings.fine_tune.epochs or settings.compression.gate_bits is not None:
        # There is nothing to undo, or nothing to go back to: as fitted, gates are not rounded yet.
        _tune_on_all(attempt, teacher, measured)
    else:
        _tune_or_undo(attempt, teacher, measured)
    return fitted


def _tune_after_search(
    attempt: Attempt,
    chosen: Chosen,
    fitted: dict[str, adtn.ADTN],
    teacher: nn.Module | None,
    measured: Measurements,
) -> dict[str, adtn.ADTN]:
    """On all training samples; where that comes to nothing, as the trial was trained, which kept the promise."""
    inputs, settings = attempt.inputs, attempt.job.settings
    assert inputs.dataset is not None
    spare = copy.deepcopy((inputs.model, fitted))
    try:
        tuned = _tune_on_all(attempt, teacher, measured)
        if chosen.loss_rose or not tuned.loss_rose:
            return fitted
        reason = "the loss rose"
    except TrainingDiverged as error:
        reason = str(error)
    inputs.model, fitted = spare
    samples = parts_of(inputs.dataset, settings.seed).samples(inputs.dataset)
    measured.fine_tuned = fine_tune(inputs.model, samples, settings, teacher, attempt.progress.step)
    measured.training_caveats = [trained_as_tried(reason)]
    return fitted


def _tune_or_undo(attempt: Attempt, teacher: nn.Module | None, measured: Measurements) -> None:
    """On all training samples; what does harm is undone."""
    inputs, seed = attempt.inputs, attempt.job.settings.seed
    assert inputs.dataset is not None
    split, samples = _judging(inputs.dataset, seed)
    spare = {key: tensor.cpu().clone() for key, tensor in inputs.model.state_dict().items()}
    before = _right(attempt, samples, 0.0)
    _tune_on_all(attempt, teacher, measured)
    change = change_of(before, _right(attempt, samples, 1.0))
    # Of training samples the fitted model may still know by heart what the original did, and a little less of that
    # need not mean a worse model.
    least = HARM if split == "training" else 0.0
    if not change.is_fall or -change.share <= least:
        return
    inputs.model.zero_grad(set_to_none=True)
    restore(inputs.model, spare)
    measured.training_caveats = [tuning_undone(int(before.sum()), change, split)]


def _tune_on_all(attempt: Attempt, teacher: nn.Module | None, measured: Measurements) -> adtn.FineTuned:
    """Fine-tune on all training samples; what it took."""
    dataset, settings = attempt.inputs.dataset, attempt.job.settings
    assert dataset is not None
    samples = dataset.train_x, dataset.train_y
    measured.fine_tuned = fine_tune(attempt.inputs.model, samples, settings, teacher, attempt.progress.step)
    return measured.fine_tuned


def _judging(dataset: Dataset, seed: int) -> tuple[Literal["training", "validation"], tuple[Samples, Tensor]]:
    """What tells whether training has done harm: samples of the validation split, or else of those trained on."""
    if dataset.val_x is not None and dataset.val_y is not None:
        return "validation", drawn(dataset.val_x, dataset.val_y, seed)
    return "training", drawn(dataset.train_x, dataset.train_y, seed)


def _right(attempt: Attempt, samples: tuple[Samples, Tensor], done: float) -> Tensor:
    """Which samples the model answers rightly, (N,), bool."""
    return right_of(attempt.inputs.model, *samples, lambda _: attempt.progress.step(done, "evaluating"))

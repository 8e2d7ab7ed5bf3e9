"""Stage `plan`, its first part: the original is trained further, before it is compressed and imitated.

Distillation passes on what the teacher knows of the very samples that it sees. An original that was trained on other
data, or on images that were not changed at random, knows these less well than it could, and a few epochs mend that:
teacher correction (arXiv:2408.11796). What follows takes the outcome in the place of the upload; the report compares
with the upload all the same.
"""

from torch import Tensor

from adtn.errors import TrainingDiverged
from jobs.planning import is_searched
from jobs.schemas.settings import JobSettings
from worker.datasets import Dataset
from worker.evaluation import HARM, drawn, share_of_commonest, top1
from worker.pipeline.attempt import Attempt
from worker.pipeline.compress import fine_tune
from worker.pipeline.evaluate import dense_state
from worker.pipeline.heldout import parts_of
from worker.pipeline.kept import Kept
from worker.weights import restore

KIND = "teacher"
"""Names what is kept for another attempt."""


def correct(attempt: Attempt) -> dict[str, Tensor]:
    """Train the attempt's model further, in place, or take over what an earlier attempt has made of it.

    Samples on which a search will decide are left out. Those on which layers are measured are not: nothing is promised
    of them, and measuring compares with what the model has become.

    Args:
        attempt: The job, with data; its model holds the upload.

    Returns:
        The dense state dict of what the model has become, on the CPU.

    Raises:
        TrainingDiverged: The loss is not finite, or it rose and the model lost what it knew, or all of that is lost.
    """
    settings, inputs = attempt.job.settings, attempt.inputs
    assert inputs.dataset is not None
    kept, subject = Kept(attempt, KIND), settings.fine_tune.teacher_epochs
    before = kept.find_tensors(subject)
    if before is not None:
        restore(inputs.model, before)
    else:
        _train(attempt, _samples(inputs.dataset, settings))
        kept.keep_tensors(subject, inputs.model.state_dict())
    return {key: tensor.cpu().clone() for key, tensor in dense_state(inputs.model, inputs.state).items()}


def _train(attempt: Attempt, samples: tuple[Tensor, Tensor]) -> None:
    settings, model = attempt.job.settings, attempt.inputs.model
    wish = settings.fine_tune.model_copy(update={"epochs": settings.fine_tune.teacher_epochs, "natural_epochs": 0})
    likewise = settings.model_copy(update={"fine_tune": wish})

    def on_step(done: float, message: str) -> None:
        attempt.progress.step(done, f"the original: {message}")

    inputs, labels = drawn(*samples, settings.seed)
    commonest = share_of_commonest(labels)
    before = top1(model, inputs, labels, lambda done: on_step(0.0, "evaluating"))
    try:
        tuned = fine_tune(model, samples, likewise, None, on_step)
    except TrainingDiverged as error:
        raise TrainingDiverged(f"teacher_epochs: {error}") from error
    model.zero_grad(set_to_none=True)  # what follows makes copies
    after = top1(model, inputs, labels, lambda done: on_step(1.0, "evaluating"))
    change = f"is right on {after:.2%} of the training samples, and was on {before:.2%}"
    if after <= commonest < before and before - after > HARM:
        raise TrainingDiverged(f"teacher_epochs: training has ruined the original, which {change}")
    # Either alone need not mean a worse model: it may have known these samples by heart, and may still know them.
    if tuned.loss_rose and before - after > HARM:
        raise TrainingDiverged(
            f"teacher_epochs: the loss of the original rose from {tuned.first_loss:.3g} to {tuned.last_loss:.3g}; "
            f"it {change}"
        )


def _samples(dataset: Dataset, settings: JobSettings) -> tuple[Tensor, Tensor]:
    """What may be trained on before a size is chosen."""
    if not is_searched(settings.compression):
        return dataset.train_x, dataset.train_y
    return parts_of(dataset, settings.seed).samples(dataset)

"""From the settings of a job to the options of the library."""

from torch import nn

from adtn import FineTuneOptions, FitOptions
from adtn.freezing import trainable
from adtn.natural import check_count, check_norms
from jobs.planning import MOST_KEPT_BYTES
from jobs.schemas.settings import JobSettings


def fit_options(settings: JobSettings) -> FitOptions:
    """How weights are fitted."""
    return FitOptions(settings.fit.steps, settings.fit.learning_rate, settings.seed)


def require_natural_epochs(settings: JobSettings, model: nn.Module, original: int, stored: int) -> None:
    """Refuse natural-gradient epochs before weights are fitted, where the compressed model could not take them.

    Args:
        settings: Of the job.
        model: Before compression; not changed.
        original: Entries of what will be encoded.
        stored: Numbers that they will be stored in, or as many as are known of.

    Raises:
        NotSampleWise: Too many numbers would be trained, or a batch norm that mixes the samples.
    """
    wish = settings.fine_tune
    if not wish.natural_epochs:
        return
    dense = sum(parameter.numel() for parameter in model.parameters()) - original
    check_count(stored + (dense if wish.dense == "train" else 0))
    with trainable(model, wish.dense):
        check_norms(model)


def fine_tune_options(settings: JobSettings) -> FineTuneOptions:
    """How the compressed model is trained."""
    wish = settings.fine_tune
    return FineTuneOptions(
        epochs=wish.epochs,
        learning_rate=wish.learning_rate,
        gate_learning_rate=None if wish.gate_learning_rate == "auto" else wish.gate_learning_rate,
        batch_size=wish.batch_size,
        natural_epochs=wish.natural_epochs,
        schedule=wish.schedule,
        distill=wish.distill,
        temperature=wish.temperature,
        seed=settings.seed,
        gate_bits=settings.compression.gate_bits,
        dense=wish.dense,
        accumulate=wish.accumulate,
        precision=wish.precision,
        cache_bytes=MOST_KEPT_BYTES,
    )

"""From the settings of a job to the options of the library."""

from adtn import FineTuneOptions, FitOptions
from jobs.planning import MOST_KEPT_BYTES
from jobs.schemas.settings import JobSettings


def fit_options(settings: JobSettings) -> FitOptions:
    """How weights are fitted."""
    return FitOptions(settings.fit.steps, settings.fit.learning_rate, settings.seed)


def fine_tune_options(settings: JobSettings) -> FineTuneOptions:
    """How the compressed model is trained."""
    wish = settings.fine_tune
    return FineTuneOptions(
        epochs=wish.epochs,
        learning_rate=wish.learning_rate,
        gate_learning_rate=None if wish.gate_learning_rate == "auto" else wish.gate_learning_rate,
        batch_size=wish.batch_size,
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

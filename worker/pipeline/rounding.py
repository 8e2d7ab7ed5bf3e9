"""Gates in few bits, where no training follows the fit: they are rounded at once."""

from collections.abc import Mapping

from torch import Tensor

from adtn.fitting import relative_error
from adtn.module import ADTN
from adtn.plan import Plan
from adtn.sharing import joined
from jobs.schemas.settings import JobSettings


def round_untrained(
    plan: Plan, fitted: Mapping[str, ADTN], weights: Mapping[str, Tensor], settings: JobSettings
) -> None:
    """Round fitted gates that will not be trained, if that is asked for; `relative_error` takes it in.

    To be done before they are put into the model, so that biases take up the error of what is stored.

    Args:
        plan: What was encoded.
        fitted: ADTNs by the layers' keys; changed in place.
        weights: What they were fitted to.
        settings: Without a data set or without epochs nothing is trained.
    """
    bits = settings.compression.gate_bits
    if bits is None or (settings.dataset is not None and settings.fine_tune.epochs > 0):
        return
    for entry in plan.entries:
        found = fitted[entry.layer.key]
        found.quantise(bits)
        found.relative_error = relative_error(found, joined([weights[part.key] for part in entry.layer.weights]))

"""Gates in few bits, where no training follows the fit: they are rounded at once."""

from collections.abc import Mapping

from torch import Tensor

from adtn.fitting import relative_error
from adtn.module import ADTN
from jobs.schemas.settings import JobSettings


def round_untrained(fitted: Mapping[str, ADTN], weights: Mapping[str, Tensor], settings: JobSettings) -> None:
    """Round fitted gates that will not be trained, if that is asked for; `relative_error` takes it in.

    To be done before they are put into the model, so that biases take up the error of what is stored.

    Args:
        fitted: ADTNs by key; changed in place.
        weights: What they were fitted to.
        settings: Without a data set or without epochs nothing is trained.
    """
    bits = settings.compression.gate_bits
    if bits is None or (settings.dataset is not None and settings.fine_tune.epochs > 0):
        return
    for key, found in fitted.items():
        found.quantise(bits)
        found.relative_error = relative_error(found, weights[key])

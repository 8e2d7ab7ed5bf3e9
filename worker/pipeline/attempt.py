"""What the parts of the pipeline share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from adtn import Layer
from jobs.records import JobRecord
from jobs.store import Store
from worker.pipeline.fit import KeptFits
from worker.pipeline.inspect import Inputs
from worker.pipeline.progress import ProgressReporter


@dataclass(frozen=True)
class Attempt:
    """A job under way.

    Attributes:
        job: The job with its settings.
        inputs: What it starts from.
        store: Where fits are kept, and what a later attempt takes over.
        folder: A place for temporary files.
        progress: Told of every step; raises where the job should not go on.
    """

    job: JobRecord
    inputs: Inputs
    store: Store
    folder: Path
    progress: ProgressReporter

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the model, as the inspection of the upload has found them: refused ones, and dtypes.

        The model computes in float32 whatever the upload holds, but the artifacts have the upload's dtypes again.
        """
        rows = {row["key"]: row for row in self.job.checkpoint.layers or []}
        return tuple(_as_uploaded(layer, rows.get(layer.key)) for layer in self.inputs.layers)

    @property
    def fits(self) -> KeptFits:
        """The fits of the job's owner."""
        return KeptFits(self.store, self.job.owner, self.folder)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The model's tensors by key, on the device that computes."""
        return {key: tensor.detach() for key, tensor in self.inputs.model.state_dict().items()}


def _as_uploaded(layer: Layer, row: Mapping[str, Any] | None) -> Layer:
    """A layer of the model with what the inspection has found, if it has seen it."""
    if row is None:
        return layer
    found = replace(layer, dtype=row["dtype"])
    return found if row["eligible"] else replace(found, eligible=False, reason=row["reason"])

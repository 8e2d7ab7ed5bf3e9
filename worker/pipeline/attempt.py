"""What the parts of the pipeline share."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from adtn import Layer
from jobs.records import JobRecord
from jobs.store import Store
from worker.pipeline.inspect import Inputs
from worker.pipeline.progress import ProgressReporter


@dataclass(frozen=True)
class Attempt:
    """A job under way.

    Attributes:
        job: The job with its settings.
        inputs: What it starts from.
        store: Where fits are kept.
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
        """The layers of the model; what the inspection of the upload has found against one holds here too."""
        refused = {row["key"]: row["reason"] for row in self.job.checkpoint.layers or [] if not row["eligible"]}
        return tuple(
            replace(layer, eligible=False, reason=refused[layer.key]) if layer.key in refused else layer
            for layer in self.inputs.layers
        )

    @property
    def weights(self) -> dict[str, Tensor]:
        """The model's tensors by key, on the device that computes."""
        return {key: tensor.detach() for key, tensor in self.inputs.model.state_dict().items()}

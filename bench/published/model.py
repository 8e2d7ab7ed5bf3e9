"""What a published model is: where it comes from, how its own code makes it, and the jobs that it is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.published.packages import Package, fetched
from bench.published.samples import Samples


@dataclass(frozen=True)
class Published:
    """A model that others trained.

    Attributes:
        name: On the command line.
        title: In the table.
        package: That ships it.
        weights: The file in it that is uploaded when weights alone are.
        make: The model of the package's own code, from the folder of the package's files, its weights not loaded.
        state: The state_dict in the file of weights, from the same folder.
        samples: Labelled, for the model that was made.
        dtype: In which its code takes a batch.
        settings: Of the job with data.
        settings_alone: Of the job on weights alone.
    """

    name: str
    title: str
    package: Package
    weights: str
    make: Callable[[Path], nn.Module]
    state: Callable[[Path], Mapping[str, Tensor]]
    samples: Callable[[nn.Module], Samples]
    dtype: torch.dtype
    settings: Mapping[str, Any]
    settings_alone: Mapping[str, Any]

    def empty(self) -> nn.Module:
        """The model in evaluation mode, its weights as its code initialises them."""
        return self.make(fetched(self.package)).eval()

    def original(self) -> nn.Module:
        """The model with the weights that were published."""
        model = self.empty()
        model.load_state_dict(self.state(fetched(self.package)))
        return model

    def shipped(self) -> Path:
        """The file of weights."""
        return fetched(self.package) / self.weights

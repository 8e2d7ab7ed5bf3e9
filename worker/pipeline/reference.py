"""What the compressed model makes of a few samples: artifacts are held against it where there are no data."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from worker.pipeline.inspect import Inputs

SAMPLES = 8


@torch.no_grad()
def write_reference(inputs: Inputs, state: dict[str, Tensor], seed: int, folder: Path) -> Path | None:
    """Write `inputs` and `outputs` for random samples; None where there is no network, or where there are data.

    Args:
        inputs: Of the job.
        state: The compressed model as a dense state dict.
        seed: Of the samples. They are from 0 to 1, so that a network of tokens reads them as the token 0.
        folder: Where to write.
    """
    if inputs.architecture is None or inputs.dataset is not None:
        return None
    shape = inputs.architecture.input_shape
    samples = torch.rand(SAMPLES, *shape, generator=torch.Generator().manual_seed(seed))
    model = inputs.blueprint.build(state, shape).model.eval()
    path = folder / "reference.safetensors"
    save_file({"inputs": samples, "outputs": model(samples).contiguous()}, path)
    return path

"""A library's model with the weights of a checkpoint, so that it has exactly the checkpoint's keys."""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jobs.problems import ProblemError
from worker.architectures.architecture import drop_counters, load_float32
from worker.libraries.blank import Make, require_fitting, unstored_buffers
from worker.libraries.importing import first_line


def loaded(name: str, make: Make, expected: nn.Module, state: Mapping[str, Tensor]) -> tuple[nn.Module, list[str]]:
    """Compare a checkpoint with a blank model, then build the model and load it.

    Args:
        name: For messages.
        make: Builds the model.
        expected: The same, blank.
        state: Of the checkpoint.

    Returns:
        The model in training mode, and notes on what was converted.

    Raises:
        ProblemError: See `worker.libraries.blank`.
    """
    require_fitting(name, expected, state)
    model = make().float().train()
    _store_buffers(model, state)
    notes = load_float32(model, _completed(model, state))
    drop_counters(model, state)
    return model, notes


@torch.no_grad()
def classes_of(name: str, model: nn.Module, shape: tuple[int, ...], fill: float = 0.0) -> int:
    """Run two samples, refuse a shape that the model does not take or does not classify, and count the classes.

    Args:
        name: For messages.
        model: In training mode, as it is afterwards.
        shape: Of one sample.
        fill: The number that samples hold.

    Raises:
        ProblemError: `dataset_mismatch`.
    """
    model.eval()
    try:
        outputs: object = model(torch.full((2, *shape), fill))
    except Exception as error:  # models refuse samples in any way
        raise ProblemError(
            "dataset_mismatch", f"{name} cannot be run on samples of shape {shape}: {first_line(error)}"
        ) from error
    finally:
        model.train()
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != 2:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ProblemError(
            "dataset_mismatch",
            f"{name}: expected outputs of shape (2, classes) for 2 samples of shape {shape}, got {got}",
        )
    return outputs.shape[1]


def _store_buffers(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Make the buffers that the checkpoint stores a part of the state dict."""
    for key in unstored_buffers(model).keys() & state.keys():
        prefix, _, name = key.rpartition(".")
        model.get_submodule(prefix)._non_persistent_buffers_set.discard(name)


def _completed(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict in the model's own form, with those of tied keys and counters that it lacks."""
    own = model.state_dict(keep_vars=True)
    given = {id(tensor): state[key] for key, tensor in own.items() if key in state}
    whole = OrderedDict((key, state.get(key, given.get(id(tensor), tensor))) for key, tensor in own.items())
    whole._metadata = own._metadata  # type: ignore[attr-defined]  # some modules ask for the version of their keys
    return whole

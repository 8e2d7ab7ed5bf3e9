"""A library's model with the weights of a checkpoint, so that it has exactly the checkpoint's keys."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from jobs.problems import ProblemError
from worker.architectures.architecture import drop_counters, load_float32
from worker.libraries.blank import blank, require_fitting, sizes_of, unstored_buffers
from worker.libraries.importing import first_line


def loaded(
    name: str,
    make: Callable[..., nn.Module],
    state: Mapping[str, Tensor],
    told: Mapping[str, tuple[int, int]],
    refusal: Callable[[Exception], ProblemError],
    where: AbstractContextManager[object] | None = None,
) -> tuple[nn.Module, dict[str, int], list[str]]:
    """Build a model in the sizes of a checkpoint and load it, once a blank one has all its shapes.

    Args:
        name: For messages.
        make: Builds the model from settings by name.
        state: Of the checkpoint.
        told: Settings that shapes tell, with two values of each to try.
        refusal: The problem of a model that cannot be built, made of the error.
        where: See `worker.libraries.blank.blank`; entered anew for each blank model.

    Returns:
        The model in training mode, the settings that were told, and notes on what was converted.

    Raises:
        ProblemError: See `worker.libraries.blank`.
    """

    def blank_one(**sizes: int) -> nn.Module:
        return blank(name, partial(make, **sizes), state, refusal, where)

    sizes = sizes_of(blank_one, state, told)
    require_fitting(name, blank_one(**sizes), state)
    model = make(**sizes).float().train()
    _store_buffers(model, state)
    notes = load_float32(model, _completed(model, state))
    drop_counters(model, state)
    return model, sizes, notes


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

"""The state_dict in what torch.load returned: tensors by name, taken out of the wrappers that people save."""

from collections.abc import Mapping

from torch import Tensor

from jobs.problems import Fault, ProblemError
from worker.sandbox.tensor_checks import check_layouts, check_names
from worker.sandbox.tensor_file import quoted
from worker.sandbox.unwrapping import is_tensor, unwrapped

LIGHTNING_VERSION = "pytorch-lightning_version"


def named_tensors(loaded: object) -> tuple[dict[str, Tensor], list[str]]:
    """The checked state_dict in a loaded object.

    Args:
        loaded: What `torch.load(weights_only=True)` returned.

    Returns:
        Tensors by key, and notes on where they were and what was left out.

    Raises:
        ProblemError: `not_a_checkpoint`, `checkpoint_ambiguous` or `checkpoint_invalid`.
    """
    if not isinstance(loaded, dict):
        raise ProblemError("not_a_checkpoint", f"expected a dict of tensors by name, got a {type(loaded).__name__}")
    state, notes = unwrapped(loaded)
    if not any(is_tensor(value) for value in state.values()):
        raise ProblemError("not_a_checkpoint", f"expected a dict of tensors by name, got {_description(state)}")
    check_names(state)
    _require_tensors(state)
    check_layouts(state)
    return dict(state), notes


def is_lightning(loaded: object) -> bool:
    """Whether Lightning wrote the checkpoint."""
    return isinstance(loaded, dict) and LIGHTNING_VERSION in loaded


def _require_tensors(state: Mapping[str, object]) -> None:
    """Refuse a state_dict with anything but tensors in it."""
    faults = [
        Fault(key, f"expected a tensor, got a {type(value).__name__}", "checkpoint_invalid")
        for key, value in state.items()
        if not is_tensor(value)
    ]
    if faults:
        raise ProblemError("checkpoint_invalid", f"entry {faults[0].pointer!r}: {faults[0].detail}", faults[:20])


def _description(state: Mapping[object, object]) -> str:
    """What a dict without tensors holds."""
    if "param_groups" in state:
        return "an optimizer's state: save model.state_dict() instead"
    entries = [f"{quoted(key)}: {type(value).__name__}" for key, value in list(state.items())[:8]]
    return f"a dict of {', '.join(entries)}" if entries else "an empty dict"

"""The state_dict in what torch.load returned: tensors by name, taken out of the wrappers that people save."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from jobs.problems import Fault, ProblemError
from worker.sandbox.tensor_checks import check_layouts, check_names
from worker.sandbox.tensor_file import quoted

# Keys under which training scripts keep the state_dict, beside the optimizer's state and the epoch.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module", "weights")
PARALLEL = "module."  # what nn.DataParallel puts before every key


def named_tensors(loaded: object) -> tuple[dict[str, Tensor], list[str]]:
    """The checked state_dict in a loaded object.

    Args:
        loaded: What `torch.load(weights_only=True)` returned.

    Returns:
        Tensors by key, and notes on what was left out or renamed.

    Raises:
        ProblemError: `not_a_checkpoint` or `checkpoint_invalid`.
    """
    if not isinstance(loaded, dict):
        raise ProblemError("not_a_checkpoint", f"expected a dict of tensors by name, got a {type(loaded).__name__}")
    notes: list[str] = []
    state = _unwrapped(loaded, notes)
    if not any(_is_tensor(value) for value in state.values()):
        raise ProblemError("not_a_checkpoint", f"expected a dict of tensors by name, got {_description(state)}")
    check_names(state)
    _require_tensors(state)
    state = _without_prefix(state, notes)
    check_names(state)
    check_layouts(state)
    return state, notes


def _unwrapped(loaded: dict[Any, Any], notes: list[str]) -> dict[Any, Any]:
    """The state_dict inside a dict that also holds other things, or the dict itself."""
    if any(_is_tensor(value) for value in loaded.values()):
        return loaded
    for key in WRAPPERS:
        inner = loaded.get(key)
        if isinstance(inner, dict) and any(_is_tensor(value) for value in inner.values()):
            others = ", ".join(quoted(other) for other in list(loaded)[:20] if other != key)
            notes.append(f"read from the entry '{key}'" + (f"; left out: {others}" if others else ""))
            return inner
    return loaded


def _without_prefix(state: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """The state without the prefix of nn.DataParallel, if all keys have it."""
    if not all(key.startswith(PARALLEL) for key in state):
        return dict(state)
    notes.append(f"the prefix '{PARALLEL}' of nn.DataParallel was removed from every key")
    return {key.removeprefix(PARALLEL): tensor for key, tensor in state.items()}


def _is_tensor(value: object) -> bool:
    """Whether this is a plain tensor or parameter; subclasses may redefine what their operations do."""
    return type(value) in (Tensor, nn.Parameter)


def _require_tensors(state: Mapping[str, object]) -> None:
    """Refuse a state_dict with anything but tensors in it."""
    faults = [
        Fault(key, f"expected a tensor, got a {type(value).__name__}", "checkpoint_invalid")
        for key, value in state.items()
        if not _is_tensor(value)
    ]
    if faults:
        raise ProblemError("checkpoint_invalid", f"entry {faults[0].pointer!r}: {faults[0].detail}", faults[:20])


def _description(state: Mapping[object, object]) -> str:
    """What a dict without tensors holds."""
    if "param_groups" in state:
        return "an optimizer's state: save model.state_dict() instead"
    entries = [f"{quoted(key)}: {type(value).__name__}" for key, value in list(state.items())[:8]]
    return f"a dict of {', '.join(entries)}" if entries else "an empty dict"

"""Which dict in a training checkpoint holds the weights: people save them beside an optimizer's state and an epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from jobs.problems import ProblemError
from worker.sandbox.tensor_file import quoted

# Entries under which training scripts keep the state_dict, and those for the running average of the weights (EMA).
PLAIN = ("state_dict", "model_state_dict", "model", "net", "module", "weights")
AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")
MAX_NESTING = 3
LISTED = 20


def unwrapped(loaded: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], list[str]]:
    """The state_dict inside a dict that holds other things too, or the dict itself.

    Args:
        loaded: What `torch.load(weights_only=True)` returned.

    Returns:
        The dict, and notes on where it was and what was left out. It may hold other values than tensors.

    Raises:
        ProblemError: `checkpoint_ambiguous` if several dicts might be meant.
    """
    notes: list[str] = []
    while len(notes) < MAX_NESTING:
        name = _entry_of(loaded)
        if name is None:
            break
        notes.append(_note(loaded, name))
        loaded = loaded[name]
    return loaded, notes


def is_tensor(value: object) -> bool:
    """Whether this is a plain tensor or parameter; subclasses may redefine what their operations do."""
    return type(value) in (Tensor, nn.Parameter)


def _entry_of(loaded: Mapping[Any, Any]) -> str | None:
    """The entry that holds the weights; None if there is none, so that the dict itself is the state_dict."""
    for names in (PLAIN, AVERAGED):
        if found := [name for name in names if _holds_weights(loaded.get(name), MAX_NESTING)]:
            return _only(found)
    if any(is_tensor(value) for value in loaded.values()):
        return None
    found = [name for name, value in loaded.items() if isinstance(name, str) and _is_state(value)]
    return _only(found) if found else None


def _holds_weights(value: object, nesting: int) -> bool:
    """Whether this is a dict with tensors in it, or in an entry where weights are kept."""
    if not isinstance(value, dict):
        return False
    inner = (value.get(name) for name in (*PLAIN, *AVERAGED)) if nesting else ()
    return any(map(is_tensor, value.values())) or any(_holds_weights(entry, nesting - 1) for entry in inner)


def _is_state(value: object) -> bool:
    """Whether this is a dict of tensors by name and nothing else, whatever entry it was found in."""
    if not isinstance(value, dict):
        return False
    return len(value) > 0 and all(isinstance(key, str) and is_tensor(held) for key, held in value.items())


def _only(names: Sequence[str]) -> str:
    """The one of the entries that hold weights."""
    if len(names) == 1:
        return names[0]
    listed = ", ".join(map(quoted, names[:LISTED]))
    raise ProblemError(
        "checkpoint_ambiguous",
        f"expected the weights of one model, got {len(names)} dicts of tensors: {listed}. Save one of them alone: "
        f"torch.save(torch.load(path)[{quoted(names[0])}], 'weights.pt')",
    )


def _note(loaded: Mapping[Any, Any], name: str) -> str:
    """What a user should know of the entry that was taken."""
    averaged = [other for other in AVERAGED if other != name and _holds_weights(loaded.get(other), MAX_NESTING)]
    parts = [f"weights taken from {quoted(name)}"]
    if name in AVERAGED:
        parts.append("a running average of the weights: there are no others in the file")
    if averaged:
        parts.append(f"not from their running average in {', '.join(map(quoted, averaged))}")
    if others := [quoted(key) for key in loaded if key not in (name, *averaged)]:
        parts.append(f"left out: {', '.join(others[:LISTED])}")
    return "; ".join(parts)

"""Stage `fit`: one ADTN for each weight of the plan. What was fitted before, by a job of the same owner, is reused."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import adtn
from adtn.fitting import FitOptions, FitTask, fit_each
from adtn.module import ADTN
from adtn.moments import InputMoments
from adtn.plan import Plan, PlanEntry
from adtn.sharing import joined
from jobs.store import Store

# Part of every fingerprint: raise it when the same inputs would be fitted to other numbers.
FIT_VERSION = 4


class KeptFits:
    """The fits of an owner: nobody learns from a fit that took no time what somebody else has compressed.

    Args:
        store: Where they are.
        owner: Of the jobs.
        folder: A place for temporary files.
    """

    def __init__(self, store: Store, owner: str, folder: Path) -> None:
        self._store, self._path = store, folder / "fit.safetensors"
        self._prefix = f"fits/{hashlib.sha256(owner.encode()).hexdigest()[:32]}"

    def key(self, task: FitTask) -> str:
        """Where the fit of a task is kept; to tell, its weight is read whole."""
        return f"{self._prefix}/{fingerprint(task)}.safetensors"

    def find(self, key: str, task: FitTask) -> ADTN | None:
        """The fit of a task, if it is kept."""
        if not self._store.get_to_file(key, self._path, missing_ok=True):
            return None
        kept = load_file(self._path)
        found = ADTN(tuple(task.weight.shape), task.structure, dtype=task.weight.dtype).to(task.weight.device)
        with torch.no_grad():
            found.gates.copy_(kept["gates"])
        found.relative_error = float(kept["relative_error"])
        return found

    def keep(self, key: str, found: ADTN) -> None:
        """Keep a fit."""
        tensors = {
            "gates": found.gates.detach().cpu(),
            "relative_error": torch.tensor(found.relative_error, dtype=torch.float64),
        }
        save_file(tensors, self._path)
        self._store.put_file(key, self._path)


def fit(
    plan: Plan,
    state: Mapping[str, Tensor],
    moments: Mapping[str, InputMoments],
    options: Mapping[str, FitOptions],
    kept: KeptFits,
    on_step: Callable[[float, str], None],
) -> dict[str, ADTN]:
    """Fit every weight of `plan`, equal structures as one batch.

    Args:
        plan: The weights to encode, with their structures.
        state: The model's weights by key, on the device that fits.
        moments: For some of the keys the moments of the layer's inputs: see `adtn.fit`.
        options: Steps, learning rate and seed, by the layer's key.
        kept: Where fits are kept, each as soon as its batch is made, so that a later attempt resumes after it.
        on_step: Called with the share done, 0 to 1, and a message.

    Returns:
        The ADTN of each layer's key; that of a group is the group's.
    """
    tasks = [_task(entry, state, moments, options[entry.layer.key]) for entry in plan.entries]
    keys = [kept.key(task) for task in tasks]
    found = [kept.find(key, task) for key, task in zip(keys, tasks, strict=True)]
    missing = [i for i, fitted in enumerate(found) if fitted is None]
    done = [float(fitted is not None) for fitted in found]

    def report(number: int, step: int, steps: int, error: float) -> None:
        i = missing[number]
        done[i] = step / steps
        on_step(sum(done) / len(done), f"fitting {tasks[i].name}, relative error {math.sqrt(error):.3f}")

    for number, fitted in fit_each([tasks[i] for i in missing], report):
        i = missing[number]
        kept.keep(keys[i], fitted)
        found[i] = fitted
    return {entry.layer.key: fitted for entry, fitted in zip(plan.entries, found, strict=True) if fitted is not None}


def _task(
    entry: PlanEntry, state: Mapping[str, Tensor], moments: Mapping[str, InputMoments], options: FitOptions
) -> FitTask:
    """What is to be fitted for an entry of a plan."""
    weight = joined([state[part.key] for part in entry.layer.weights])
    known = moments.get(entry.layer.key)
    return FitTask(weight, entry.structure, options, known.second if known else None, entry.layer.name)


def fingerprint(task: FitTask) -> str:
    """A digest of all that a fit depends on.

    Two fits with the same one have the same gates on the same device, but for the rounding of the sums of a batch.
    """
    parts = {
        "version": FIT_VERSION,
        "adtn": adtn.__version__,
        "torch": torch.__version__,
        "device": task.weight.device.type,
        "shape": list(task.weight.shape),
        "dtype": str(task.weight.dtype),
        "structure": task.structure.to_json(),
        "weighted": task.input_moment is not None,
        "options": vars(task.options),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for tensor in (task.weight, task.input_moment):
        if tensor is not None:
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

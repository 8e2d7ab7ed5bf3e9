"""Stage `fit`: one ADTN for each weight of the plan. A fit that was made before, by this job or another, is reused."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import adtn
from adtn.fitting import FitOptions
from adtn.module import ADTN
from adtn.moments import InputMoments
from adtn.plan import Plan
from adtn.sharing import joined
from adtn.structure import AnyStructure
from jobs.store import Store

# Part of every fingerprint: raise it when the same inputs would be fitted to other numbers.
FIT_VERSION = 3


def fit(
    plan: Plan,
    state: Mapping[str, Tensor],
    moments: Mapping[str, InputMoments],
    options: FitOptions,
    store: Store,
    folder: Path,
    on_step: Callable[[float, str], None],
) -> dict[str, ADTN]:
    """Fit every weight of `plan`.

    Args:
        plan: The weights to encode, with their structures.
        state: The model's weights by key, on the device that fits.
        moments: For some of the keys the moments of the layer's inputs: see `adtn.fit`.
        options: Steps, learning rate and seed; each weight gets a seed of its own after that one.
        store: Where fits are kept, each as soon as it is made, so that a later attempt resumes after it.
        folder: A place for temporary files.
        on_step: Called with the share done, 0 to 1, and a message.

    Returns:
        The ADTN of each layer's key; that of a group is the group's.
    """
    fitted: dict[str, ADTN] = {}
    for number, entry in enumerate(plan.entries):
        weight = joined([state[part.key] for part in entry.layer.weights])
        known = moments.get(entry.layer.key)
        moment = known.second if known else None
        own = replace(options, seed=options.seed + number)
        key = f"fits/{fingerprint(weight, entry.structure, own, moment)}.safetensors"

        def report(step: int, steps: int, error: float, number: int = number, name: str = entry.layer.name) -> None:
            on_step(
                (number + step / steps) / len(plan.entries), f"fitting {name}, relative error {math.sqrt(error):.3f}"
            )

        found = stored_fit(key, weight, entry.structure, store, folder)
        if found is None:
            found = adtn.fit(weight, entry.structure, own, report, moment)
            keep_fit(found, key, store, folder)
        fitted[entry.layer.key] = found
    return fitted


def fingerprint(weight: Tensor, structure: AnyStructure, options: FitOptions, moment: Tensor | None) -> str:
    """A digest of all that a fit depends on: two fits with the same one have the same gates on the same device."""
    parts = {
        "version": FIT_VERSION,
        "adtn": adtn.__version__,
        "torch": torch.__version__,
        "device": weight.device.type,
        "shape": list(weight.shape),
        "dtype": str(weight.dtype),
        "structure": structure.to_json(),
        "weighted": moment is not None,
        "options": vars(options),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for tensor in (weight, moment):
        if tensor is not None:
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def stored_fit(key: str, weight: Tensor, structure: AnyStructure, store: Store, folder: Path) -> ADTN | None:
    """The fit that is kept under `key`, if there is one."""
    path = folder / "fit.safetensors"
    if not store.get_to_file(key, path, missing_ok=True):
        return None
    kept = load_file(path)
    found = ADTN(tuple(weight.shape), structure, dtype=weight.dtype).to(weight.device)
    with torch.no_grad():
        found.gates.copy_(kept["gates"])
    found.relative_error = float(kept["relative_error"])
    return found


def keep_fit(found: ADTN, key: str, store: Store, folder: Path) -> None:
    """Keep a fit under `key`."""
    path = folder / "fit.safetensors"
    save_file(
        {
            "gates": found.gates.detach().cpu(),
            "relative_error": torch.tensor(found.relative_error, dtype=torch.float64),
        },
        path,
    )
    store.put_file(key, path)

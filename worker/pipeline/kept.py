"""What an attempt has found out, kept in the store for the next attempt at the same job."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import adtn
from jobs import records
from worker.pipeline.attempt import Attempt
from worker.pipeline.fit import FIT_VERSION

# Part of every key: raise it when the same work would end in another way, or is written down in another form.
KEPT_VERSION = 6


class Kept:
    """Findings of one kind, under the job's own prefix in the store, so that they go when the job is deleted.

    A trial may take an hour. An attempt that a lost machine or a new release has cut short is followed by another,
    which goes on after what has ended.

    Args:
        attempt: The job.
        kind: Names the folder.
    """

    def __init__(self, attempt: Attempt, kind: str) -> None:
        self._folder = folder(attempt.job.id, kind)
        self._store = attempt.store
        self._path = attempt.folder / f"{kind}.kept"
        self._device = next(iter(attempt.weights.values())).device.type

    def find(self, subject: object) -> Any:
        """What was kept, as JSON values, or None.

        Args:
            subject: What was looked into, as JSON values. Files and settings of a job never change.
        """
        return json.loads(self._path.read_text()) if self._get(subject, "json") else None

    def keep(self, subject: object, found: object) -> None:
        """Keep something.

        Args:
            subject: As in `find`.
            found: As JSON values, not None.
        """
        self._path.write_text(json.dumps(found))
        self._put(subject, "json")

    def find_tensors(self, subject: object) -> dict[str, Tensor] | None:
        """As `find`, of what `keep_tensors` has kept: on the CPU."""
        return load_file(self._path) if self._get(subject, "safetensors") else None

    def keep_tensors(self, subject: object, found: Mapping[str, Tensor]) -> None:
        """As `keep`, of tensors by key; those that share memory are kept each by itself."""
        save_file({key: tensor.detach().cpu().clone().contiguous() for key, tensor in found.items()}, self._path)
        self._put(subject, "safetensors")

    def _get(self, subject: object, form: str) -> bool:
        return self._store.get_to_file(self._key(subject, form), self._path, missing_ok=True)

    def _put(self, subject: object, form: str) -> None:
        self._store.put_file(self._key(subject, form), self._path)

    def _key(self, subject: object, form: str) -> str:
        parts = [KEPT_VERSION, FIT_VERSION, adtn.__version__, torch.__version__, self._device, subject]
        return f"{self._folder}/{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}.{form}"


def folder(job_id: str, kind: str) -> str:
    """Where in the store a job's findings of one kind are."""
    return f"{records.folder(job_id)}/{kind}"

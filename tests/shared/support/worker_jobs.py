"""Files and jobs of a worker without service or queue: what a request would have stored, and the run of a job."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs import files, records
from jobs.ids import new_id
from jobs.schemas.settings import JobSettings
from worker.inspect_file import inspect_file
from worker.resources import Resources
from worker.run_job import run_job


def add_file(resources: Resources, path: Path, purpose: str) -> str:
    """Store an upload and inspect it; its id."""
    file_id = new_id("file")
    resources.store.put_file(f"files/{file_id}/upload", path)
    with resources.db.begin() as session:
        files.create(
            session,
            file_id,
            owner="local",
            filename=path.name,
            purpose=purpose,
            size=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
    inspect_file(file_id, resources)
    return file_id


def run_once(resources: Resources, settings: Mapping[str, Any]) -> Any:
    """Run a job to its end in this process, in a single attempt; its record."""
    with resources.db.begin() as session:
        row = records.create(session, owner="local", settings=JobSettings.model_validate(settings), max_attempts=1)
        job_id = row.id
    run_job(job_id, resources)
    return records.get(resources.db, "local", job_id)


@contextmanager
def without_verification() -> Iterator[None]:
    """Jobs end without the fresh process of their last stage, which takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.pipeline.run.verify", lambda *arguments: {"fresh_process": False})
        yield


def artifact(resources: Resources, job_id: str, kind: str, folder: Path) -> Path:
    """An artifact of a job, copied into a folder."""
    with resources.db.read() as session:
        found = next(item for item in records.artifacts(session, [job_id])[job_id] if item.kind == kind)
    resources.store.get_to_file(found.key, folder / found.name)
    return folder / found.name


def artifacts(resources: Resources, job_id: str, folder: Path) -> Path:
    """All artifacts of a job, copied into a new folder inside another; that folder."""
    made = folder / job_id
    made.mkdir()
    with resources.db.read() as session:
        for item in records.artifacts(session, [job_id])[job_id]:
            resources.store.get_to_file(item.key, made / item.name)
    return made

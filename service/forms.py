"""A job in one request: a form with `checkpoint`, perhaps `dataset`, and `settings`, in any order."""

import json
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from jobs.problems import Fault, ProblemError
from jobs.states import PURPOSES
from service.errors import invalid
from service.multipart import parts, text
from service.names import safe_filename
from service.resources import Resources
from service.submission import NewFile, Submitted, read_settings, submit
from service.uploads import discard, receive


async def job_from_form(request: Request, resources: Resources, owner: str, key: str | None) -> Submitted:
    """Store the files of a form and queue the job; if that fails, or the key was used before, no file is kept.

    Raises:
        ProblemError: The form, a file, the settings or the key cannot be accepted.
    """
    new_files: list[NewFile] = []
    try:
        written = await _read(request, resources, new_files)
        settings = read_settings(_with_files(written, new_files))
        submitted = await run_in_threadpool(submit, resources, owner, settings, key, new_files)
    except BaseException:
        await discard(resources, [new.upload for new in new_files])
        raise
    if submitted.replayed:
        await discard(resources, [new.upload for new in new_files])
    return submitted


async def _read(request: Request, resources: Resources, new_files: list[NewFile]) -> str:
    """Store the files as they come, adding them to `new_files`, and return the settings."""
    settings = "{}"
    async for part in parts(request.headers["content-type"], request.stream()):
        if part.name == "settings":
            settings = await text(part, resources.settings.max_body_bytes)
            continue
        purpose = next((purpose for purpose in PURPOSES if purpose == part.name), None)
        if purpose is None or purpose in [new.purpose for new in new_files]:
            raise invalid([Fault(f"/{part.name}", "expected checkpoint, dataset and settings, each once", "extra")])
        upload = await receive(resources, part.chunks)
        new_files.append(NewFile(upload, purpose, safe_filename(part.filename)))
    if "checkpoint" not in [new.purpose for new in new_files]:
        raise invalid([Fault("/checkpoint", "Field required", "missing")])
    return settings


def _with_files(written: str, new_files: list[NewFile]) -> str:
    """The settings as JSON with the ids of the files that came along."""
    try:
        settings: Any = json.loads(written)
    except (ValueError, RecursionError):
        raise ProblemError("malformed_request", "settings: not JSON") from None
    if not isinstance(settings, dict):
        raise invalid([Fault("/settings", "expected an object", "dict_type")])
    for new in new_files:
        if new.purpose in settings:
            raise invalid([Fault(f"/{new.purpose}", "given twice: as a file and in the settings", "extra")])
        settings[new.purpose] = new.upload.file_id
    return json.dumps(settings)

"""How a job comes to be: checked, stored once for each idempotency key, then published."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy.orm import Session

from jobs import files, idempotency, records
from jobs.files import FileRecord
from jobs.idempotency import Answer, Claim
from jobs.problems import ProblemError
from jobs.publishing import try_publish_file, try_publish_job
from jobs.schemas.settings import JobSettings
from jobs.states import Purpose
from jobs.tables import JobRow
from service import uploads
from service.errors import faults, invalid
from service.planning import (
    check_layers,
    check_names,
    check_network,
    check_time,
    is_planned_here,
    plans_for,
    require_ready,
)
from service.resources import Resources
from service.uploads import Upload
from service.views import job_views


@dataclass(frozen=True)
class NewFile:
    """A file that came with the job in one request."""

    upload: Upload
    purpose: Purpose
    filename: str


@dataclass(frozen=True)
class Submitted:
    """The answer to a request for a job; `replayed` where an earlier request with the same key made it."""

    answer: Answer
    replayed: bool


def read_settings(body: bytes | str) -> JobSettings:
    """The settings in a JSON body.

    Raises:
        ProblemError: malformed_request where it is not JSON, validation_failed where it does not fit the schema.
    """
    try:
        return JobSettings.model_validate_json(body, strict=True)
    except ValidationError as error:
        if any(item["type"] == "json_invalid" for item in error.errors()):
            raise ProblemError("malformed_request", "the body is not JSON") from None
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise ProblemError("malformed_request", "the body is not JSON") from None
        raise invalid(faults(error, value)) from None


def submit(
    resources: Resources, owner: str, settings: JobSettings, key: str | None, new_files: Sequence[NewFile] = ()
) -> Submitted:
    """Queue a job with the files that came with it, if any.

    Raises:
        ProblemError: The settings, a file or the key cannot be accepted. Nothing was stored then.
    """
    _check_settings(resources, settings)

    def create(session: Session) -> JobRow:
        for new in new_files:
            uploads.add(session, new.upload, owner=owner, filename=new.filename, purpose=new.purpose)
        return records.create(session, owner=owner, settings=settings, max_attempts=resources.settings.max_attempts)

    def check() -> None:
        if not new_files:
            check_plan(resources, owner, settings)

    submitted = _once(resources, _claim(owner, "POST /v1/jobs", key), _fingerprint(settings, new_files), check, create)
    if not submitted.replayed:
        for new in new_files:
            try_publish_file(resources.db, resources.queue, new.upload.file_id)
    return submitted


def retry(resources: Resources, owner: str, job_id: str, key: str | None) -> Submitted:
    """Queue a new job with the settings of one that failed or was cancelled.

    Raises:
        ProblemError: not_found, job_not_retryable or file_rejected.
    """

    def create(session: Session) -> JobRow:
        return records.retry(session, owner, job_id, max_attempts=resources.settings.max_attempts)

    claim = _claim(owner, f"POST /v1/jobs/{job_id}/retry", key)
    return _once(resources, claim, job_id, lambda: None, create)


def check_plan(resources: Resources, owner: str, settings: JobSettings) -> None:
    """Refuse at once what the worker would refuse, as far as the checkpoint is inspected already.

    Raises:
        ProblemError: not_found, or why no plan can be made.
    """
    checkpoint = files.get(resources.db, owner, settings.checkpoint)
    if checkpoint.status == "ready" and checkpoint.purpose == "checkpoint":
        check_network(settings, checkpoint)
        if is_planned_here(settings.compression, checkpoint):
            plans_for(settings.compression, checkpoint)


def inspected(resources: Resources, owner: str, settings: JobSettings) -> tuple[FileRecord, FileRecord | None]:
    """The checkpoint and the data set that the settings name, where both are inspected.

    Raises:
        ProblemError: not_found, file_not_ready, file_rejected or wrong_purpose.
    """
    _check_settings(resources, settings)
    checkpoint = files.get(resources.db, owner, settings.checkpoint)
    dataset = None
    if settings.dataset is not None and records.is_file_id(settings.dataset):
        dataset = files.get(resources.db, owner, settings.dataset)
    for file, purpose in ((checkpoint, "checkpoint"), (dataset, "dataset")):
        if file is None:
            continue
        if file.purpose != purpose:
            raise ProblemError("wrong_purpose", f"{file.id} was uploaded as a {file.purpose}, expected a {purpose}")
        require_ready(file)
    check_network(settings, checkpoint)
    return checkpoint, dataset


def _check_settings(resources: Resources, settings: JobSettings) -> None:
    """Refuse what can be told to be wrong without a look at the files."""
    check_names(settings)
    check_layers(settings)
    check_time(settings, resources.settings.task_limit_s)


def _once(
    resources: Resources,
    claim: Claim | None,
    fingerprint: str,
    check: Callable[[], None],
    create: Callable[[Session], JobRow],
) -> Submitted:
    """Check and create a job, unless an earlier request with the same key did."""
    db = resources.db
    granted = None if claim is None else idempotency.claim(db, claim, fingerprint)
    if isinstance(granted, Answer):
        return Submitted(granted, replayed=True)
    try:
        check()
        with db.begin() as session:
            row = create(session)
            view = job_views(session, [row], resources.settings.worker_silence_s)[0]
            answer = Answer(202, row.id, view.model_dump(mode="json"))
            ready = not records.unready_files(session, [row])
            if granted is not None:
                idempotency.answered(session, granted, answer)
    except BaseException:
        # Nothing was done, so a corrected request may use the key.
        if granted is not None:
            idempotency.give_up(db, granted)
        raise
    if ready:
        try_publish_job(db, resources.queue, row.id)
    return Submitted(answer, replayed=False)


def _claim(owner: str, route: str, key: str | None) -> Claim | None:
    return None if key is None else Claim(owner, route, key)


def _fingerprint(settings: JobSettings, new_files: Sequence[NewFile]) -> str:
    """A digest of what is asked for; files that came along count by their content, since their ids are new."""
    content = settings.model_dump(mode="json")
    for new in new_files:
        content[new.purpose] = new.upload.sha256
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

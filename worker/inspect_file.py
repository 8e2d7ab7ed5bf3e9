"""Inspection of an upload: the sandbox reads it, and only what it wrote is kept for jobs."""

import logging

from jobs import files, records
from jobs.problems import ProblemError
from jobs.publishing import try_publish_job
from worker.resources import Resources
from worker.sandbox import Limits, read_upload
from worker.scratch import scratch_folder

log = logging.getLogger(__name__)

# Faults of this worker, not of the file: the inspection is tried again, a limited number of times, by the reconciler.
NOT_THE_FILES_FAULT = {"storage_full", "internal_error"}


def inspect_file(file_id: str, resources: Resources) -> None:
    """Read an upload in the sandbox and mark it ready or rejected; end quietly if that was done before.

    Raises:
        ProblemError: The worker could not inspect it; the file stays `processing`.
    """
    file = files.load_for_worker(resources.db, file_id)
    if file is None:
        log.info("file %s: nothing to do", file_id)
        return
    with scratch_folder() as folder:
        source, out = folder / "upload", folder / "checked"
        out.mkdir()
        resources.store.get_to_file(file.upload_key, source)
        try:
            inspection = read_upload(source, file.purpose, file.filename, out, Limits())
        except ProblemError as problem:
            if problem.code in NOT_THE_FILES_FAULT:
                raise
            files.mark_rejected(resources.db, file_id, problem)
            return
        files.renew(resources.db, file_id)
        checked_key = f"files/{file_id}/checked.safetensors"
        resources.store.put_file(checked_key, inspection.tensors)
        is_there = files.mark_ready(
            resources.db,
            file_id,
            format=inspection.format,
            summary=inspection.summary,
            layers=inspection.layers,
            aliases=inspection.aliases,
            checked_key=checked_key,
        )
        if not is_there:  # deleted meanwhile, with the objects that it had then
            resources.store.delete(files.folder(file_id))
            return
    for job_id in records.waiting_for(resources.db, file_id):
        try_publish_job(resources.db, resources.app, job_id)

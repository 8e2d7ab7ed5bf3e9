"""The Celery application of the worker and its two tasks. Each takes an id, opens resources and calls one function.

The imports stand inside the tasks: torch is loaded in the process that runs a job, never in the one that feeds it.
"""

from jobs.queue import INSPECT_FILE, RUN_JOB, make_app
from jobs.settings import Settings

settings = Settings()
app = make_app(settings)


@app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
def run_job(job_id: str) -> None:
    """Run one attempt at a job."""
    from worker.resources import open_resources
    from worker.run_job import run_job as run

    run(job_id, open_resources(app, settings))


@app.task(name=INSPECT_FILE)  # type: ignore[untyped-decorator]
def inspect_file(file_id: str) -> None:
    """Inspect one upload."""
    from worker.inspect_file import inspect_file as inspect
    from worker.resources import open_resources

    inspect(file_id, open_resources(app, settings))

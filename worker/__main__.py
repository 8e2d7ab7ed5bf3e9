"""`python -m worker --queue jobs|files`: a Celery worker for one queue, one task at a time.

The `files` queue inspects uploads and must answer in seconds, so it has a worker of its own beside the `jobs` queue,
whose tasks take minutes to hours and get a fresh process each: a job that breaks its device breaks only itself.
"""

import argparse
import os
import socket
import uuid

# Read when Celery is imported: SIGTERM is then the soft shutdown, which lets a job put itself back into the queue.
os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
# Read when CUDA starts: cuBLAS is deterministic only with a workspace of fixed size.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

TASKS_PER_PROCESS = {"jobs": 1, "files": 100}


def main() -> None:
    """Parse the command line and run the worker until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--queue", choices=sorted(TASKS_PER_PROCESS), required=True)
    queue = parser.parse_args().queue
    worker_id = f"{queue}-{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    os.environ["ADTN_WORKER_ID"] = worker_id

    # Imported only now, since the environment above decides how they behave.
    from celery import signals

    from jobs.database import migrate
    from worker.app import app, settings
    from worker.heartbeat import Heartbeat
    from worker.pool import PromptReplacement
    from worker.resources import open_resources

    migrate(settings.database_url)
    resources = open_resources(app, settings)
    resources.stop_file.parent.mkdir(parents=True, exist_ok=True)
    heartbeat = Heartbeat(resources.db, worker_id, queue)
    app.steps["worker"].add(PromptReplacement)
    signals.worker_ready.connect(lambda **_: heartbeat.start(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: resources.stop_file.touch(), weak=False)
    try:
        app.worker_main(
            [
                "worker",
                *("--queues", queue),
                *("--hostname", f"{worker_id}@%h"),
                *("--concurrency", "1"),
                *("--max-tasks-per-child", str(TASKS_PER_PROCESS[queue])),
                *("--loglevel", "INFO"),
                "--without-gossip",
                "--without-mingle",
            ]
        )
    finally:
        resources.stop_file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

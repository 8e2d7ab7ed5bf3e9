"""The queue: Celery over Redis. A message is a wake-up that carries an id; the database says what is to be done."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from jobs.problems import ProblemError
from jobs.settings import Settings

RUN_JOB = "adtn.run_job"
INSPECT_FILE = "adtn.inspect_file"
JOBS_QUEUE = "jobs"
FILES_QUEUE = "files"

# Between the end of a task's time and its redelivery: Redis gives a message to another worker when nobody has
# acknowledged it for so long.
VISIBILITY_MARGIN_S = 900
SOFT_LIMIT_MARGIN_S = 120


class QueueUnavailable(ProblemError):
    """Redis cannot be reached."""

    def __init__(self, detail: str) -> None:
        super().__init__("queue_unavailable", detail)


def make_app(settings: Settings) -> Celery:
    """The Celery application, the same for whoever publishes and for whoever works."""
    visibility_s = settings.task_limit_s + VISIBILITY_MARGIN_S
    app = Celery("adtn", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        # No results: the job's row is the truth, and nobody would collect them.
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # A message stays until the task has ended, so that a worker that dies takes none with it.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        # A child that is killed does not bring its message back: the lease decides about another attempt, with a limit.
        task_reject_on_worker_lost=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_time_limit=settings.task_limit_s,
        task_soft_time_limit=max(1, settings.task_limit_s - SOFT_LIMIT_MARGIN_S),
        task_acks_on_timeout=True,
        broker_transport_options={
            "visibility_timeout": visibility_s,
            "socket_timeout": 30,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        visibility_timeout=visibility_s,
        broker_connection_retry_on_startup=True,
        # CUDA cannot be used in a forked process.
        worker_pool_start_method="spawn",
        worker_concurrency=1,
        worker_soft_shutdown_timeout=60,
        worker_send_task_events=False,
        task_routes={RUN_JOB: {"queue": JOBS_QUEUE}, INSPECT_FILE: {"queue": FILES_QUEUE}},
        # How long whoever publishes waits for Redis; see `_connection`.
        adtn_broker_timeout_s=settings.broker_timeout_s,
    )
    return app


def publish_job(app: Celery, job_id: str) -> None:
    """Ask for a job to be run.

    Raises:
        QueueUnavailable: Redis does not answer within `broker_timeout_s`.
    """
    _publish(app, RUN_JOB, job_id, JOBS_QUEUE)


def publish_file(app: Celery, file_id: str) -> None:
    """Ask for a file to be inspected.

    Raises:
        QueueUnavailable: Redis does not answer within `broker_timeout_s`.
    """
    _publish(app, INSPECT_FILE, file_id, FILES_QUEUE)


def waiting(app: Celery, queue: str) -> int:
    """How many messages of a queue no worker has taken yet.

    Raises:
        QueueUnavailable: Redis does not answer within `broker_timeout_s`.
    """
    with _connection(app) as connection:
        return int(connection.default_channel.queue_declare(queue, durable=True).message_count)


def _publish(app: Celery, task: str, id: str, queue: str) -> None:
    with _connection(app) as connection:
        app.send_task(task, [id], queue=queue, connection=connection, retry=False)


@contextmanager
def _connection(app: Celery) -> Iterator[Any]:
    """A connection of its own that gives up soon: a request waits for it, and the reconciler tries again anyway."""
    timeout_s = app.conf.adtn_broker_timeout_s
    options = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "max_retries": 0,
        "interval_start": 0,
        "connect_retries_timeout": timeout_s,
    }
    try:
        with app.connection_for_write(connect_timeout=timeout_s, transport_options=options) as connection:
            yield connection
    except (KombuError, OperationalError, RedisError, OSError) as error:
        raise QueueUnavailable("Redis cannot be reached; what is queued stays so and is published later") from error

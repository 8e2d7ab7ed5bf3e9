"""The reconciler: what a lost message or a lost worker leaves behind is found again."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery

from jobs import events, files, leases, queue, records
from jobs.database import Database
from jobs.queue import make_app
from jobs.reconcile import reconcile
from jobs.settings import Settings
from jobs.tables import JobRow

OWNER = "alice"
AddJob = Callable[..., JobRow]
AddFile = Callable[..., str]

pytestmark = pytest.mark.redis


@pytest.fixture
def messages(redis_url: str) -> Callable[[str], list[str]]:
    """Reads the ids that wait in a queue, and leaves them there."""
    client = redis.Redis(unix_socket_path=redis_url.removeprefix("redis+socket://"))

    def read(name: str) -> list[str]:
        waiting = [json.loads(message) for message in client.lrange(name, 0, -1)]
        client.connection_pool.disconnect()
        return [json.loads(base64.b64decode(message["body"]))[0][0] for message in waiting]

    return read


def drop_messages(redis_url: str) -> None:
    with redis.Redis(unix_socket_path=redis_url.removeprefix("redis+socket://")) as client:
        client.flushall()


def lose(db: Database, job: JobRow) -> None:
    """Let a worker take the job and vanish."""
    assert leases.take(db, job.id, owner="w1", lease_s=-1) is not None


def test_a_job_of_a_lost_worker_is_queued_and_published_again(
    db: Database, app: Celery, add_job: AddJob, messages: Callable[[str], list[str]]
) -> None:
    job = add_job()
    lose(db, job)
    reconcile(db, app)
    row = records.get(db, OWNER, job.id)
    assert (row.status, row.losses, row.lease_owner, row.lease_until) == ("queued", 1, None, None)
    assert messages("jobs") == [job.id]
    assert [event.type for event in events.after(db, job.id, 0, 9)] == ["job.queued", "job.started", "job.retried"]


def test_a_job_whose_workers_are_lost_too_often_fails(db: Database, app: Celery, add_job: AddJob) -> None:
    job = add_job(max_attempts=2)
    for _ in range(2):
        lose(db, job)
        reconcile(db, app)
    row = records.get(db, OWNER, job.id)
    assert (row.status, row.attempt) == ("failed", 2)
    assert row.error is not None
    assert row.error["code"] == "worker_lost"
    assert "attempt 2 of 2" in row.error["detail"]


def test_a_job_that_was_to_be_cancelled_when_its_worker_was_lost_is_cancelled(
    db: Database, app: Celery, add_job: AddJob
) -> None:
    job = add_job()
    lose(db, job)
    records.cancel(db, OWNER, job.id)
    reconcile(db, app)
    assert records.get(db, OWNER, job.id).status == "cancelled"


def test_a_lease_that_is_alive_is_left_alone(db: Database, app: Celery, add_job: AddJob) -> None:
    job = add_job()
    leases.take(db, job.id, owner="w1", lease_s=60)
    reconcile(db, app)
    assert records.get(db, OWNER, job.id).status == "running"


def test_what_was_never_published_is_published_once(
    db: Database, app: Celery, add_job: AddJob, add_file: AddFile, messages: Callable[[str], list[str]]
) -> None:
    first = add_job()
    second = add_job()
    file_id = add_file(ready=False)
    waiting = add_job(checkpoint=file_id)
    for _ in range(3):
        reconcile(db, app)
    assert messages("jobs")[::-1] == [first.id, second.id]
    assert messages("files") == [file_id]
    assert records.get(db, OWNER, waiting.id).published_at is None


def test_a_message_that_was_lost_is_published_again(
    db: Database, app: Celery, redis_url: str, add_job: AddJob, messages: Callable[[str], list[str]]
) -> None:
    job = add_job()
    reconcile(db, app)
    drop_messages(redis_url)
    reconcile(db, app, republish_s=60)
    assert messages("jobs") == []
    reconcile(db, app, republish_s=0)
    assert messages("jobs") == [job.id]


def test_messages_that_wait_in_a_long_queue_are_not_doubled(
    db: Database, app: Celery, add_job: AddJob, messages: Callable[[str], list[str]]
) -> None:
    checkpoint = add_job().checkpoint_id
    for _ in range(4):
        add_job(checkpoint=checkpoint)
    for _ in range(3):
        reconcile(db, app, republish_s=0)
    assert len(messages("jobs")) == 5


def test_a_file_whose_inspection_is_lost_again_and_again_is_rejected_with_the_jobs_that_wait(
    db: Database, app: Celery, add_job: AddJob, add_file: AddFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "INSPECTION_S", -1.0)
    file_id = add_file(ready=False)
    job = add_job(checkpoint=file_id)
    for _ in range(3):
        assert files.load_for_worker(db, file_id) is not None
        assert files.get(db, OWNER, file_id).status == "processing"
        reconcile(db, app, max_attempts=3)
    file = files.get(db, OWNER, file_id)
    row = records.get(db, OWNER, job.id)
    assert file.error is not None
    assert (file.status, file.error["code"]) == ("rejected", "worker_lost")
    assert (row.status, row.error) == ("failed", file.error)


def test_with_redis_down_leases_are_taken_back_and_messages_follow_later(
    db: Database, redis_process: Any, add_job: AddJob
) -> None:
    app = make_app(Settings(broker_url=redis_process.url))
    job = add_job()
    lose(db, job)
    redis_process.stop()
    reconcile(db, app)
    assert records.get(db, OWNER, job.id).status == "queued"
    assert records.get(db, OWNER, job.id).published_at is None
    redis_process.start()
    reconcile(db, app)
    assert queue.waiting(app, "jobs") == 1
    assert records.get(db, OWNER, job.id).published_at is not None
    app.close()

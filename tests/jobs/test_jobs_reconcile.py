"""The reconciler: what a lost message or a lost worker leaves behind is found again."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from celery import Celery
from sqlalchemy import select

from jobs import events, files, leases, queue, records
from jobs.database import Database
from jobs.publishing import try_publish_file, try_publish_job
from jobs.queue import make_app
from jobs.reconcile import reconcile
from jobs.settings import Settings
from jobs.tables import FileRow, JobRow

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


def deliver(redis_url: str, name: str) -> str:
    """Take the first message of a queue, as a worker does; the id that it carries."""
    with redis.Redis(unix_socket_path=redis_url.removeprefix("redis+socket://")) as client:
        message = json.loads(client.rpop(name))
    return str(json.loads(base64.b64decode(message["body"]))[0][0])


def pass_time(db: Database, seconds: float) -> None:
    """Let all that has happened have happened so much earlier."""
    time = timedelta(seconds=seconds)
    with db.begin() as session:
        for row in [*session.scalars(select(JobRow)), *session.scalars(select(FileRow))]:
            for name in ("created_at", "queued_at", "published_at", "started_at"):
                if getattr(row, name, None) is not None:
                    setattr(row, name, getattr(row, name) - time)


def start(db: Database, job_id: str) -> None:
    assert leases.take(db, job_id, owner="w1", lease_s=3600) is not None


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


def test_with_an_old_message_that_was_lost_all_are_published_again_in_their_order(
    db: Database, app: Celery, redis_url: str, add_job: AddJob, add_file: AddFile, messages: Callable[[str], list[str]]
) -> None:
    jobs, uploads = [], []
    for seconds in (50, 10):
        jobs.append(add_job().id)
        uploads.append(add_file(ready=False))
        reconcile(db, app)
        pass_time(db, seconds)
    drop_messages(redis_url)
    for _ in range(3):
        reconcile(db, app)
    assert messages("jobs")[::-1] == jobs
    assert messages("files")[::-1] == uploads


def test_lost_jobs_are_published_again_once_a_later_one_runs_though_the_queue_is_never_empty(
    db: Database, app: Celery, redis_url: str, add_job: AddJob, messages: Callable[[str], list[str]]
) -> None:
    lost = []
    for seconds in (50, 10):
        lost.append(add_job().id)
        reconcile(db, app)
        pass_time(db, seconds)
    drop_messages(redis_url)
    others = [add_job().id for _ in range(3)]
    for job_id in others:
        try_publish_job(db, app, job_id)
    reconcile(db, app)
    assert messages("jobs")[::-1] == others, "nothing tells yet that messages were lost"
    start(db, deliver(redis_url, "jobs"))
    reconcile(db, app)
    assert messages("jobs")[::-1] == others[1:], "whoever was handed the message before may be about to begin"
    pass_time(db, 31)
    for _ in range(3):
        reconcile(db, app)
    assert messages("jobs")[::-1] == [*others[1:], *lost]
    start(db, deliver(redis_url, "jobs"))
    pass_time(db, 31)
    reconcile(db, app)
    assert messages("jobs")[::-1] == [others[2], *lost], "what came before they were published again tells nothing"


def test_lost_files_are_published_again_once_a_later_one_is_inspected_though_the_queue_is_never_empty(
    db: Database, app: Celery, redis_url: str, add_file: AddFile, messages: Callable[[str], list[str]]
) -> None:
    lost = []
    for seconds in (50, 10):
        lost.append(add_file(ready=False))
        reconcile(db, app)
        pass_time(db, seconds)
    drop_messages(redis_url)
    others = [add_file(ready=False) for _ in range(3)]
    for file_id in others:
        try_publish_file(db, app, file_id)
    pass_time(db, 21)
    reconcile(db, app)
    assert messages("files")[::-1] == others, "nothing tells yet that messages were lost"
    assert files.load_for_worker(db, deliver(redis_url, "files")) is not None
    for _ in range(3):
        reconcile(db, app)
    assert messages("files")[::-1] == [*others[1:], *lost]
    assert files.load_for_worker(db, deliver(redis_url, "files")) is not None
    pass_time(db, 31)
    reconcile(db, app)
    assert messages("files")[::-1] == [others[2], *lost], "what came before they were published again tells nothing"


def test_a_job_whose_worker_was_killed_before_it_began_is_published_again_once_a_later_one_runs(
    db: Database, app: Celery, redis_url: str, add_job: AddJob, messages: Callable[[str], list[str]]
) -> None:
    first, second, third = [add_job() for _ in range(3)]
    reconcile(db, app)
    assert deliver(redis_url, "jobs") == first.id
    pass_time(db, 60)
    fourth, fifth = add_job(), add_job()
    reconcile(db, app)
    for job in (second, third, fourth):
        start(db, deliver(redis_url, "jobs"))
        pass_time(db, 31)
        reconcile(db, app)
        expected = [first.id] if job is fourth else []
        assert [id for id in messages("jobs") if id == first.id] == expected
    assert messages("jobs")[::-1] == [fifth.id, first.id]


def test_what_waits_in_a_long_queue_that_is_worked_through_is_not_doubled(
    db: Database, app: Celery, redis_url: str, add_job: AddJob, add_file: AddFile, messages: Callable[[str], list[str]]
) -> None:
    jobs, uploads = [], []
    for i in range(8):
        jobs.append(add_job().id)
        uploads.append(add_file(ready=False))
        reconcile(db, app)
        pass_time(db, 60)
        if i % 2:
            start(db, deliver(redis_url, "jobs"))
            assert files.load_for_worker(db, deliver(redis_url, "files")) is not None
            pass_time(db, 60)
            reconcile(db, app)
    assert messages("jobs")[::-1] == jobs[4:]
    assert messages("files")[::-1] == uploads[4:]


def test_a_job_that_is_started_by_an_older_message_of_its_own_has_overtaken_nobody(
    db: Database, app: Celery, redis_url: str, add_job: AddJob, messages: Callable[[str], list[str]]
) -> None:
    first, second, third = [add_job() for _ in range(3)]
    reconcile(db, app)
    assert deliver(redis_url, "jobs") == first.id
    lose(db, first)
    pass_time(db, 60)
    reconcile(db, app)
    assert messages("jobs")[::-1] == [second.id, third.id, first.id]
    start(db, first.id)  # its worker's message was put back to the head of the queue
    pass_time(db, 60)
    reconcile(db, app)
    assert messages("jobs")[::-1] == [second.id, third.id, first.id]


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

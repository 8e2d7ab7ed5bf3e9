"""Leases: one worker at a time, and no write of one that lost its lease."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest

from jobs import events, files, leases, records
from jobs.database import Database, open_database
from jobs.leases import ArtifactRow, Lease, LeaseLost, Progress
from jobs.problems import ProblemError
from jobs.states import TRANSITIONS, JobStatus
from jobs.tables import JobRow

OWNER = "alice"
AddJob = Callable[..., JobRow]
AddFile = Callable[..., str]

REPORT = {"seed": 0}
ARTIFACTS = [ArtifactRow("report.json", "report", 2, "0" * 64, "jobs/x/1/report.json")]
ERROR = ProblemError("training_diverged", "the loss is NaN")
PROGRESS = Progress("fit", 0.5, 0.25, 12.5, "fitting fc1")

WRITES: dict[str, Callable[[Database, Lease], object]] = {
    "renew": lambda db, lease: leases.renew(db, lease, lease_s=60),
    "progress": lambda db, lease: leases.progress(db, lease, PROGRESS),
    "note": lambda db, lease: leases.note(db, lease, "job.stage", {"stage": "fit"}),
    "succeed": lambda db, lease: leases.succeed(db, lease, REPORT, ARTIFACTS),
    "fail": lambda db, lease: leases.fail(db, lease, ERROR),
    "cancelled": lambda db, lease: leases.cancelled(db, lease),
    "release": lambda db, lease: leases.release(db, lease, "shutting down"),
}


def take(db: Database, job_id: str, *, owner: str = "w1", lease_s: float = 60) -> Lease:
    lease = leases.take(db, job_id, owner=owner, lease_s=lease_s)
    assert lease is not None
    return lease


def types(db: Database, job_id: str) -> list[str]:
    return [event.type for event in events.after(db, job_id, 0, 1000)]


def contents(db: Database, job_id: str) -> dict[str, object]:
    """Everything that the database has of a job."""
    row = records.get(db, OWNER, job_id)
    columns = {column.name: getattr(row, column.name) for column in JobRow.__table__.columns}
    return columns | {"events": types(db, job_id)}


def bring_to(db: Database, job: JobRow, status: JobStatus) -> Lease:
    """Bring a queued job into a state, and return the lease that its worker has or had."""
    lease = take(db, job.id)
    match status:
        case "queued":
            leases.release(db, lease, "shutting down")
        case "cancelling":
            records.cancel(db, OWNER, job.id)
        case "succeeded":
            leases.succeed(db, lease, REPORT, ARTIFACTS)
        case "failed":
            leases.fail(db, lease, ERROR)
        case "cancelled":
            records.cancel(db, OWNER, job.id)
            leases.cancelled(db, lease)
    assert records.get(db, OWNER, job.id).status == status
    return lease


def take_all(url: str, job_ids: list[str], name: str, barrier: Any, taken: Any) -> None:
    """Race for every job; in a process of its own."""
    db = open_database(url)
    barrier.wait()
    for job_id in job_ids:
        if leases.take(db, job_id, owner=name, lease_s=60) is not None:
            taken.put(job_id)
    db.close()
    taken.put(None)


def test_of_racing_workers_exactly_one_takes_each_job(db: Database, database_url: str, add_job: AddJob) -> None:
    checkpoint = add_job().checkpoint_id
    job_ids = [add_job(checkpoint=checkpoint).id for _ in range(25)]
    context = multiprocessing.get_context("spawn")
    barrier, taken = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=take_all, args=(database_url, job_ids, f"w{i}", barrier, taken)) for i in range(3)
    ]
    for process in processes:
        process.start()
    found: list[str] = []
    running = len(processes)
    while running:
        job_id = taken.get(timeout=60)
        running -= job_id is None
        found += [job_id] if job_id else []
    for process in processes:
        process.join()
    assert sorted(found) == sorted(job_ids)
    assert all(records.get(db, OWNER, job_id).attempt == 1 for job_id in job_ids)


def test_a_lease_that_is_alive_cannot_be_taken(db: Database, add_job: AddJob) -> None:
    job = add_job()
    take(db, job.id)
    assert leases.take(db, job.id, owner="w2", lease_s=60) is None


def test_an_expired_lease_is_taken_as_the_next_attempt_and_counts_as_a_loss(db: Database, add_job: AddJob) -> None:
    job = add_job()
    first = take(db, job.id, lease_s=-1)
    started = records.get(db, OWNER, job.id).started_at
    second = take(db, job.id, owner="w2")
    row = records.get(db, OWNER, job.id)
    assert (first.attempt, second.attempt, row.losses, row.lease_owner) == (1, 2, 1, "w2")
    assert row.started_at == started


def test_an_expired_lease_is_not_taken_when_no_attempt_is_left(db: Database, add_job: AddJob) -> None:
    job = add_job(max_attempts=1)
    take(db, job.id, lease_s=-1)
    assert leases.take(db, job.id, owner="w2", lease_s=60) is None


@pytest.mark.parametrize("write", WRITES)
def test_no_write_of_a_worker_passes_after_another_took_its_job(write: str, db: Database, add_job: AddJob) -> None:
    job = add_job()
    old = take(db, job.id, lease_s=-1)
    take(db, job.id, owner="w2")
    before = contents(db, job.id)
    with pytest.raises(LeaseLost, match="attempt 1 of w1"):
        WRITES[write](db, old)
    assert contents(db, job.id) == before


@pytest.mark.parametrize("status", ["queued", "succeeded", "failed", "cancelled"])
@pytest.mark.parametrize("write", WRITES)
def test_no_write_of_a_worker_changes_a_job_that_does_not_run(
    write: str, status: JobStatus, db: Database, add_job: AddJob
) -> None:
    job = add_job()
    lease = bring_to(db, job, status)
    before = contents(db, job.id)
    with pytest.raises(LeaseLost):
        WRITES[write](db, lease)
    assert contents(db, job.id) == before


@pytest.mark.parametrize("status", ["running", "cancelling", "succeeded", "failed", "cancelled"])
def test_only_a_queued_job_can_be_taken(status: JobStatus, db: Database, add_job: AddJob) -> None:
    job = add_job()
    bring_to(db, job, status)
    before = contents(db, job.id)
    assert leases.take(db, job.id, owner="w2", lease_s=60) is None
    assert contents(db, job.id) == before


def test_a_job_is_taken_only_when_all_its_files_are_ready(db: Database, add_job: AddJob, add_file: AddFile) -> None:
    dataset = add_file(ready=False, purpose="dataset")
    job = add_job(dataset=dataset)
    assert leases.take(db, job.id, owner="w1", lease_s=60) is None
    files.mark_ready(db, dataset, format="npz", summary={}, layers=[], aliases={}, checked_key="k")
    take(db, job.id)


def test_a_job_that_is_gone_is_not_taken(db: Database) -> None:
    assert leases.take(db, "job_none", owner="w1", lease_s=60) is None


def test_renewing_extends_the_lease_and_tells_of_a_wish_to_cancel(db: Database, add_job: AddJob) -> None:
    job = add_job()
    lease = take(db, job.id, lease_s=1)
    before = records.get(db, OWNER, job.id).lease_until
    assert leases.renew(db, lease, lease_s=60) is True
    after = records.get(db, OWNER, job.id).lease_until
    assert before is not None
    assert after is not None
    assert after > before
    records.cancel(db, OWNER, job.id)
    assert leases.renew(db, lease, lease_s=60) is False


@pytest.mark.parametrize("write", ["succeed", "fail", "release", "cancelled"])
def test_a_job_whose_owner_cancelled_it_ends_as_cancelled(write: str, db: Database, add_job: AddJob) -> None:
    job = add_job()
    lease = bring_to(db, job, "cancelling")
    WRITES[write](db, lease)
    row = records.get(db, OWNER, job.id)
    assert (row.status, row.report, row.error, row.lease_until) == ("cancelled", None, None, None)
    assert types(db, job.id)[-1] == "job.cancelled"


def test_success_stores_the_report_and_the_artifacts(db: Database, add_job: AddJob) -> None:
    job = add_job()
    leases.succeed(db, take(db, job.id), REPORT, ARTIFACTS)
    row = records.get(db, OWNER, job.id)
    assert (row.status, row.report, row.fraction, row.eta_seconds) == ("succeeded", REPORT, 1.0, 0.0)
    assert row.finished_at is not None
    with db.read() as session:
        artifact = records.artifacts(session, [job.id])[job.id][0]
    assert (artifact.name, artifact.kind, artifact.bytes, artifact.key) == (
        "report.json",
        "report",
        2,
        "jobs/x/1/report.json",
    )


def test_failure_stores_the_problem(db: Database, add_job: AddJob) -> None:
    job = add_job()
    leases.fail(db, take(db, job.id), ERROR)
    row = records.get(db, OWNER, job.id)
    assert (row.status, row.error) == ("failed", ERROR.to_json())


def test_a_released_job_is_queued_again_and_costs_no_attempt(db: Database, add_job: AddJob) -> None:
    job = add_job(max_attempts=1)
    leases.release(db, take(db, job.id), "the worker shut down")
    row = records.get(db, OWNER, job.id)
    assert (row.status, row.losses, row.message, row.published_at) == ("queued", 0, "the worker shut down", None)
    assert take(db, job.id).attempt == 2


def test_progress_is_written_and_is_an_event_each_half_percent(db: Database, add_job: AddJob) -> None:
    job = add_job()
    lease = take(db, job.id)
    for step in range(50):
        leases.progress(db, lease, Progress("fit", step / 1000, step / 1000, None, f"step {step}"))
    row = records.get(db, OWNER, job.id)
    assert (row.stage, row.fraction, row.message) == ("fit", 0.049, "step 49")
    # The first of a stage, and each of the nine half percents below 4.9.
    assert types(db, job.id).count("job.progress") == 1 + 9


def test_events_are_numbered_without_gaps(db: Database, add_job: AddJob) -> None:
    job = add_job()
    bring_to(db, job, "queued")
    lease = take(db, job.id)
    leases.note(db, lease, "job.stage", {"stage": "fit"})
    leases.succeed(db, lease, REPORT, ARTIFACTS)
    rows = events.after(db, job.id, 0, 100)
    assert [(row.sequence, row.type) for row in rows] == [
        (1, "job.queued"),
        (2, "job.started"),
        (3, "job.retried"),
        (4, "job.started"),
        (5, "job.stage"),
        (6, "job.succeeded"),
    ]
    assert len({row.id for row in rows}) == len(rows)


def test_a_new_attempt_starts_with_no_progress(db: Database, add_job: AddJob) -> None:
    job = add_job()
    lease = take(db, job.id)
    leases.progress(db, lease, PROGRESS)
    leases.release(db, lease, "the worker shut down")
    take(db, job.id)
    row = records.get(db, OWNER, job.id)
    assert (row.stage, row.stage_fraction, row.fraction, row.eta_seconds) == (None, None, 0.0, None)


def test_terminal_states_have_no_way_out() -> None:
    assert {status for status, targets in TRANSITIONS.items() if not targets} == {"succeeded", "failed", "cancelled"}

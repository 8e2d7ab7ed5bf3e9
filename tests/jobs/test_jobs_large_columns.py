"""What has megabytes is read where it is used alone: the layers of a file, the report of a job."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import event, update
from sqlalchemy.exc import SQLAlchemyError

from jobs import files, leases, reconcile, records
from jobs.database import Database
from jobs.problems import ProblemError
from jobs.store import Store
from jobs.tables import JobRow

OWNER = "alice"
LAYERS = [{"name": "fc1"}]
REPORT = {"seed": 0}
AddJob = Callable[..., JobRow]
AddFile = Callable[..., str]


@pytest.fixture
def read(db: Database) -> Iterator[list[str]]:
    """What the statements sent from now on read: of each the columns that it selects or returns."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.startswith("SELECT"):
            found.append(statement.split("FROM")[0])
        elif "RETURNING" in statement:
            found.append(statement.split("RETURNING")[1])

    event.listen(db.engine, "before_cursor_execute", note)
    yield found
    event.remove(db.engine, "before_cursor_execute", note)


@pytest.fixture
def file_id(db: Database, add_file: AddFile) -> str:
    """A checkpoint with layers."""
    file_id = add_file(ready=False)
    ready(db, file_id)
    return file_id


@pytest.fixture
def finished(db: Database, add_job: AddJob, file_id: str) -> str:
    """A job with a report."""
    job_id = add_job(checkpoint=file_id).id
    succeed(db, job_id)
    return job_id


def ready(db: Database, file_id: str) -> None:
    found = {"summary": {"parameters": 3}, "layers": LAYERS, "aliases": {"a": "b"}}
    files.mark_ready(db, file_id, format="safetensors", checked_key="checked", **found)


def succeed(db: Database, job_id: str) -> None:
    lease = leases.take(db, job_id, owner="w1", lease_s=60)
    assert lease is not None
    leases.succeed(db, lease, REPORT, [])


def assert_none_of(columns: tuple[str, ...], read: list[str]) -> None:
    assert read
    assert [statement for statement in read if any(column in statement for column in columns)] == []


@pytest.mark.parametrize(
    "use",
    [
        lambda db, store, file_id: files.list_page(db, OWNER, 10, None),
        lambda db, store, file_id: files.get_info(db, OWNER, file_id),
        lambda db, store, file_id: ready(db, file_id),
        lambda db, store, file_id: files.renew(db, file_id),
        lambda db, store, file_id: files.delete(db, store, OWNER, file_id),
    ],
    ids=["list", "get_info", "mark_ready", "renew", "delete"],
)
def test_the_layers_of_a_file_are_not_read(
    use: Callable[[Database, Store, str], object], db: Database, store: Store, file_id: str, read: list[str]
) -> None:
    use(db, store, file_id)
    assert_none_of(("layers", "aliases"), read)


def test_an_inspection_begins_without_layers(db: Database, add_file: AddFile, read: list[str]) -> None:
    file_id = add_file(ready=False)
    read.clear()
    found = files.load_for_worker(db, file_id)
    assert found is not None
    assert found.id == file_id
    assert_none_of(("layers", "aliases"), read)


def test_a_listed_file_is_of_a_type_that_has_no_layers(db: Database, file_id: str) -> None:
    (listed,), _ = files.list_page(db, OWNER, 10, None)
    assert not hasattr(listed, "layers")
    whole = files.get(db, OWNER, file_id)
    assert (whole.layers, whole.aliases) == (LAYERS, {"a": "b"})
    assert {name: getattr(whole, name) for name in vars(listed)} == vars(listed)


def test_a_file_of_which_a_job_is_made_is_not_read_with_its_layers_but_its_worker_gets_them(
    db: Database, add_job: AddJob, file_id: str, read: list[str]
) -> None:
    job = add_job(checkpoint=file_id)
    assert_none_of(("layers", "aliases", "report"), read)
    assert records.load_for_worker(db, job.id).checkpoint.layers == LAYERS


@pytest.mark.parametrize(
    "use",
    [
        lambda db, store, job_id: records.list_page(db, OWNER, 10, None, None),
        lambda db, store, job_id: records.standing(db, OWNER, job_id),
        lambda db, store, job_id: records.load_for_worker(db, job_id),
        lambda db, store, job_id: records.delete(db, store, OWNER, job_id),
    ],
    ids=["list", "standing", "load_for_worker", "delete"],
)
def test_the_report_of_a_job_is_not_read(
    use: Callable[[Database, Store, str], object], db: Database, store: Store, finished: str, read: list[str]
) -> None:
    use(db, store, finished)
    assert_none_of(("report",), read)


def test_a_job_is_cancelled_retried_and_taken_back_without_its_report(
    db: Database, add_job: AddJob, file_id: str, read: list[str]
) -> None:
    job, lost = add_job(checkpoint=file_id), add_job(checkpoint=file_id)
    leases.take(db, lost.id, owner="w1", lease_s=-1)
    records.cancel(db, OWNER, job.id)
    with db.begin() as session:
        records.retry(session, OWNER, job.id, max_attempts=3)
    reconcile.take_back_lost_jobs(db)
    assert records.standing(db, OWNER, lost.id).status == "queued"
    assert_none_of(("report", "layers"), read)


def test_who_looks_at_a_job_reads_what_is_compared_and_nothing_else(
    db: Database, finished: str, read: list[str]
) -> None:
    assert records.standing(db, OWNER, finished) == records.Standing("succeeded", None, 3)
    (columns,) = read
    assert columns.removeprefix("SELECT").split() == ["jobs.status,", "jobs.stage,", "jobs.events"]
    with pytest.raises(ProblemError, match="there is no job"):
        records.standing(db, "bob", finished)


def test_a_report_is_read_by_who_asks_for_it(db: Database, add_job: AddJob, finished: str) -> None:
    queued = add_job().id
    assert (records.get(db, OWNER, finished).report, records.get(db, OWNER, queued).report) == (REPORT, None)
    with db.read() as session:
        assert (records.report(session, finished), records.report(session, queued)) == (REPORT, None)


def test_to_use_what_was_not_read_is_an_error_and_no_query(
    db: Database, finished: str, file_id: str, read: list[str]
) -> None:
    with db.read() as session:
        job, file = records.find(session, OWNER, finished), files.find(session, OWNER, file_id)
        read.clear()
        for row, column in ((job, "report"), (file, "layers"), (file, "aliases")):
            with pytest.raises(SQLAlchemyError, match=f"{column}' is not available due to raiseload"):
                getattr(row, column)
    (detached,), _ = records.list_page(db, OWNER, 10, None, None)
    read.clear()
    with pytest.raises(SQLAlchemyError):
        _ = detached.report
    assert read == []


def test_a_job_can_be_changed_whose_report_was_not_read(db: Database, finished: str) -> None:
    with db.begin() as session:
        row = records.find(session, OWNER, finished)
        row.message = "kept"
        session.execute(update(JobRow).where(JobRow.id == finished).values(losses=1))
    again = records.get(db, OWNER, finished)
    assert (again.message, again.losses, again.report) == ("kept", 1, REPORT)

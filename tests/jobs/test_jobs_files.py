"""Files: their inspection, and the jobs that wait for it."""

from collections.abc import Callable

import pytest

from jobs import files, records
from jobs.database import Database
from jobs.problems import ProblemError
from jobs.store import Store
from jobs.tables import JobRow

OWNER = "alice"
AddJob = Callable[..., JobRow]
AddFile = Callable[..., str]


def ready(db: Database, file_id: str) -> None:
    files.mark_ready(
        db,
        file_id,
        format="safetensors",
        summary={"parameters": 3},
        layers=[{"name": "fc1"}],
        aliases={"a": "b"},
        checked_key="checked",
    )


def test_only_one_inspection_of_a_file_runs_at_a_time(db: Database, add_file: AddFile) -> None:
    file_id = add_file(ready=False)
    assert files.load_for_worker(db, file_id) is not None
    assert files.load_for_worker(db, file_id) is None


def test_an_inspection_that_was_lost_can_be_begun_again(
    db: Database, add_file: AddFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "INSPECTION_S", -1.0)
    file_id = add_file(ready=False)
    assert files.load_for_worker(db, file_id) is not None
    assert files.load_for_worker(db, file_id) is not None


def test_an_inspected_file_is_not_inspected_again(db: Database, add_file: AddFile) -> None:
    file_id = add_file(ready=False)
    ready(db, file_id)
    assert files.load_for_worker(db, file_id) is None
    files.mark_rejected(db, file_id, ProblemError("truncated_file", "late"))
    record = files.get(db, OWNER, file_id)
    assert (record.status, record.error, record.layers, record.aliases) == (
        "ready",
        None,
        [{"name": "fc1"}],
        {"a": "b"},
    )


def test_a_job_can_run_as_soon_as_its_last_file_is_ready(db: Database, add_job: AddJob, add_file: AddFile) -> None:
    checkpoint, dataset = add_file(ready=False), add_file(ready=False, purpose="dataset")
    job = add_job(checkpoint=checkpoint, dataset=dataset)
    ready(db, checkpoint)
    assert records.waiting_for(db, checkpoint) == []
    ready(db, dataset)
    assert records.waiting_for(db, dataset) == [job.id]


def test_rejecting_a_file_fails_the_jobs_that_wait_with_the_same_problem(
    db: Database, add_job: AddJob, add_file: AddFile
) -> None:
    file_id = add_file(ready=False)
    waiting, other = add_job(checkpoint=file_id), add_job()
    problem = ProblemError("non_finite_values", "fc1.weight has 3 values that are NaN")
    files.mark_rejected(db, file_id, problem)
    row = records.get(db, OWNER, waiting.id)
    assert (row.status, row.error) == ("failed", problem.to_json())
    assert records.get(db, OWNER, other.id).status == "queued"


def test_a_rejected_file_makes_no_job(db: Database, add_job: AddJob, add_file: AddFile) -> None:
    file_id = add_file(ready=False)
    files.mark_rejected(db, file_id, ProblemError("truncated_file", "it ends early"))
    with pytest.raises(ProblemError, match="was rejected: it ends early") as error:
        add_job(checkpoint=file_id)
    assert error.value.code == "file_rejected"


def test_a_file_of_another_purpose_makes_no_job(add_job: AddJob, add_file: AddFile) -> None:
    with pytest.raises(ProblemError, match="uploaded as a dataset, expected a checkpoint") as error:
        add_job(checkpoint=add_file(purpose="dataset"))
    assert error.value.code == "wrong_purpose"


def test_a_file_of_another_owner_makes_no_job(add_job: AddJob, add_file: AddFile) -> None:
    with pytest.raises(ProblemError) as error:
        add_job(checkpoint=add_file(owner="bob"))
    assert error.value.code == "not_found"


def test_a_file_is_deleted_only_when_no_job_needs_it(
    db: Database, store: Store, add_job: AddJob, add_file: AddFile
) -> None:
    file_id = add_file()
    job = add_job(checkpoint=file_id)
    with pytest.raises(ProblemError) as error:
        files.delete(db, store, OWNER, file_id)
    assert error.value.code == "file_in_use"
    records.cancel(db, OWNER, job.id)
    files.delete(db, store, OWNER, file_id)
    assert records.get(db, OWNER, job.id).checkpoint_id is None


def test_the_worker_loads_the_settings_and_the_files_of_a_job(db: Database, add_job: AddJob, add_file: AddFile) -> None:
    dataset = add_file(purpose="dataset")
    job = add_job(dataset=dataset)
    record = records.load_for_worker(db, job.id)
    assert record.settings.model_dump(mode="json") == job.settings
    assert (record.checkpoint.id, record.dataset and record.dataset.id) == (job.checkpoint_id, dataset)


def test_pages_hold_every_job_once_newest_first(db: Database, add_job: AddJob) -> None:
    checkpoint = add_job().checkpoint_id
    made = [add_job(checkpoint=checkpoint).id for _ in range(6)]
    seen: list[str] = []
    more, after = True, None
    while more:
        rows, more = records.list_page(db, OWNER, 2, after, None)
        seen += [row.id for row in rows]
        after = seen[-1]
    assert seen[:6] == made[::-1]
    assert len(set(seen)) == len(seen) == 7


def test_places_in_the_queue_are_counted_from_the_oldest(db: Database, add_job: AddJob) -> None:
    checkpoint = add_job().checkpoint_id
    first, second = add_job(checkpoint=checkpoint), add_job(checkpoint=checkpoint)
    with db.read() as session:
        assert records.queue_positions(session, [second.id, first.id]) == {first.id: 2, second.id: 3}


def test_a_retry_is_a_new_job_and_the_old_one_stays_as_it_is(db: Database, add_job: AddJob) -> None:
    job = add_job()
    records.cancel(db, OWNER, job.id)
    with db.begin() as session:
        retried = records.retry(session, OWNER, job.id, max_attempts=3)
    assert (retried.status, retried.retried_from, retried.settings) == ("queued", job.id, job.settings)
    assert records.get(db, OWNER, job.id).status == "cancelled"


def test_a_job_that_has_not_ended_is_neither_retried_nor_deleted(db: Database, store: Store, add_job: AddJob) -> None:
    job = add_job()
    with pytest.raises(ProblemError, match="expected failed or cancelled"), db.begin() as session:
        records.retry(session, OWNER, job.id, max_attempts=3)
    with pytest.raises(ProblemError, match="cancel it first"):
        records.delete(db, store, OWNER, job.id)

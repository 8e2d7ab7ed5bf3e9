"""Removals: no object is left that nobody can delete."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from jobs import files, records, removals
from jobs.database import Database
from jobs.problems import ProblemError
from jobs.store import Store
from jobs.tables import JobRow, RemovalRow

OWNER = "alice"
PREFIX = "files/file_1"


@pytest.fixture
def put(store: Store, tmp_path: Path) -> Callable[[str], None]:
    def put(key: str) -> None:
        (tmp_path / "content").write_bytes(b"content")
        store.put_file(key, tmp_path / "content")

    return put


@pytest.fixture
def unreachable(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the store fail; what is returned mends it."""
    monkeypatch.setattr(store, "delete", fail)
    return monkeypatch.undo


def fail(prefix: str) -> None:
    raise ConnectionError(prefix)


def keys(store: Store) -> list[str]:
    return [found.key for page in store.pages("") for found in page]


def waiting(db: Database) -> list[str]:
    with db.read() as session:
        return list(session.scalars(select(RemovalRow.prefix)))


def condemn(db: Database) -> None:
    with db.begin() as session:
        removals.condemn(session, PREFIX)


def pass_time(db: Database, time: timedelta) -> None:
    with db.begin() as session:
        for row in session.scalars(select(RemovalRow)):
            row.due_at -= time


def test_what_is_announced_and_never_claimed_goes_after_a_week(
    db: Database, store: Store, put: Callable[[str], None]
) -> None:
    removals.reserve(db, PREFIX)
    put(f"{PREFIX}/upload")
    pass_time(db, timedelta(days=6))
    removals.carry_out_due(db, store)
    assert keys(store) == [f"{PREFIX}/upload"]
    pass_time(db, timedelta(days=1))
    removals.carry_out_due(db, store)
    assert keys(store) == []


def test_what_is_claimed_stays(db: Database, store: Store, put: Callable[[str], None]) -> None:
    removals.reserve(db, PREFIX)
    put(f"{PREFIX}/upload")
    with db.begin() as session:
        removals.claim(session, PREFIX)
    removals.give_up(db, store, PREFIX)
    removals.carry_out_due(db, store)
    assert keys(store) == [f"{PREFIX}/upload"]


def test_what_is_given_up_is_gone_and_cannot_be_claimed(db: Database, store: Store, put: Callable[[str], None]) -> None:
    removals.reserve(db, PREFIX)
    put(f"{PREFIX}/upload")
    removals.give_up(db, store, PREFIX)
    assert keys(store) == []
    with pytest.raises(ProblemError, match="given up before it became a file"), db.begin() as session:
        removals.claim(session, PREFIX)


def test_what_is_about_to_go_cannot_be_claimed_whatever_the_clocks(
    db: Database, store: Store, unreachable: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    removals.reserve(db, PREFIX)
    removals.give_up(db, store, PREFIX)  # the store fails, so that it is still to go
    unreachable()
    assert waiting(db) == [PREFIX]
    monkeypatch.setattr(removals, "now", lambda _: datetime.now(UTC) - timedelta(minutes=1))  # looked at long before
    with pytest.raises(ProblemError), db.begin() as session:
        removals.claim(session, PREFIX)


def test_a_store_that_fails_is_asked_again(
    db: Database,
    store: Store,
    put: Callable[[str], None],
    add_file: Callable[..., str],
    add_job: Callable[..., JobRow],
    unreachable: Callable[[], None],
) -> None:
    file_id, job = add_file(), add_job()
    put(f"files/{file_id}/upload")
    put(f"jobs/{job.id}/trials/a.json")
    records.cancel(db, OWNER, job.id)
    files.delete(db, store, OWNER, file_id)
    records.delete(db, store, OWNER, job.id)
    assert sorted(waiting(db)) == [f"files/{file_id}", f"jobs/{job.id}"]
    with pytest.raises(ProblemError, match="there is no file"):
        files.get(db, OWNER, file_id)
    unreachable()
    removals.carry_out_due(db, store)
    assert keys(store) == []


def test_what_is_written_after_a_file_and_a_job_were_deleted_goes_a_day_later(
    db: Database, store: Store, put: Callable[[str], None], add_file: Callable[..., str], add_job: Callable[..., JobRow]
) -> None:
    file_id, job = add_file(), add_job()
    records.cancel(db, OWNER, job.id)
    files.delete(db, store, OWNER, file_id)
    records.delete(db, store, OWNER, job.id)
    late = [f"files/{file_id}/checked.safetensors", f"jobs/{job.id}/1/model.adtn"]
    for key in late:
        put(key)
    pass_time(db, timedelta(hours=23))
    removals.carry_out_due(db, store)
    assert sorted(keys(store)) == late
    pass_time(db, timedelta(hours=1))
    removals.carry_out_due(db, store)
    assert keys(store) == waiting(db) == []


def test_the_second_removal_is_the_last(db: Database, store: Store, put: Callable[[str], None]) -> None:
    condemn(db)
    for _ in range(2):
        assert waiting(db) == [PREFIX]
        removals.carry_out_due(db, store)
        pass_time(db, timedelta(days=1))
    assert waiting(db) == []
    put(f"{PREFIX}/upload")
    removals.carry_out_due(db, store)
    assert keys(store) == [f"{PREFIX}/upload"]


def test_a_store_that_fails_the_second_time_is_asked_again(
    db: Database, store: Store, put: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    condemn(db)
    removals.carry_out_due(db, store)
    put(f"{PREFIX}/checked.safetensors")
    pass_time(db, timedelta(days=1))
    with monkeypatch.context() as patched:
        patched.setattr(store, "delete", fail)
        removals.carry_out_due(db, store)
    assert waiting(db) == [PREFIX]
    removals.carry_out_due(db, store)
    assert keys(store) == waiting(db) == []


def test_processes_that_remove_at_once_do_so_the_first_time(
    db: Database, store: Store, put: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = store.delete

    def delete_in_two_processes(prefix: str) -> None:
        monkeypatch.setattr(store, "delete", delete)
        removals.carry_out_due(db, store)
        delete(prefix)

    condemn(db)
    monkeypatch.setattr(store, "delete", delete_in_two_processes)
    removals.carry_out_due(db, store)
    put(f"{PREFIX}/checked.safetensors")
    pass_time(db, timedelta(days=1))
    removals.carry_out_due(db, store)
    assert keys(store) == waiting(db) == []


def test_giving_up_again_does_not_bring_the_second_removal_forward(
    db: Database, store: Store, put: Callable[[str], None]
) -> None:
    removals.reserve(db, PREFIX)
    for _ in range(2):
        removals.give_up(db, store, PREFIX)
    put(f"{PREFIX}/upload")
    assert waiting(db) == [PREFIX]
    pass_time(db, timedelta(days=1))
    removals.carry_out_due(db, store)
    assert keys(store) == waiting(db) == []

"""Housekeeping: what nobody needs leaves the store, and nothing else."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import leases, records, removals
from jobs.database import Database
from jobs.housekeeping import tidy
from jobs.leases import ArtifactRow, Lease
from jobs.store import Store
from jobs.tables import JobRow

AddJob = Callable[..., JobRow]

HOUR, DAY = 3600.0, 24 * 3600.0
KILLED_UPLOAD = """
import asyncio, os, sys
from jobs.store import PART_BYTES, open_store

async def parts():
    for _ in range(4):
        yield bytes(PART_BYTES)
    os._exit(9)

folder = sys.argv[1].replace(" ", "%20")
asyncio.run(open_store(f"file://{folder}").put_stream("files/file_1/upload", parts()))
"""


@pytest.fixture
def put(store: Store, folder: Path, tmp_path: Path) -> Callable[..., str]:
    """Puts an object of some age into the store."""

    def put(key: str, age: float = 2 * DAY) -> str:
        (tmp_path / "content").write_bytes(b"content")
        store.put_file(key, tmp_path / "content")
        make_old(folder / key, age)
        return key

    return put


def make_old(path: Path, age: float) -> None:
    os.utime(path, (time.time() - age,) * 2)


def keys(store: Store) -> set[str]:
    return {found.key for page in store.pages("") for found in page}


def look(db: Database, store: Store, fits_kept_s: float) -> int:
    return tidy(db, store, fits_kept_s=fits_kept_s, stopping=threading.Event())


def started(db: Database, job: JobRow) -> Lease:
    lease = leases.take(db, job.id, owner="w1", lease_s=60)
    assert lease is not None
    return lease


def test_what_the_database_does_not_know_is_left_alone(
    db: Database, store: Store, folder: Path, put: Callable[..., str]
) -> None:
    kept = {put("files/file_1/upload"), put("jobs/job_1/1/model.adtn"), put("health"), put("notes/of/somebody/else")}
    song = folder / "songs" / "song #1"
    song.parent.mkdir()
    song.write_bytes(b"...")
    make_old(song, 2 * DAY)
    assert look(db, store, fits_kept_s=30 * DAY) == 0
    assert keys(store) == kept
    assert song.exists()


def test_of_a_job_that_runs_all_is_kept(db: Database, store: Store, put: Callable[..., str], add_job: AddJob) -> None:
    waiting, running = add_job(), add_job()
    started(db, running)
    kept = {put(f"{records.folder(job.id)}/trials/a.json") for job in (waiting, running)}
    assert look(db, store, fits_kept_s=30 * DAY) == 0
    assert keys(store) == kept


def test_of_a_job_that_has_ended_its_artifacts_are_kept(
    db: Database, store: Store, put: Callable[..., str], add_job: AddJob
) -> None:
    job = add_job()
    lease = started(db, job)
    artifact = put(f"{records.folder(job.id)}/{lease.attempt}/model.adtn")
    put(f"{records.folder(job.id)}/0/model.adtn")
    put(f"{records.folder(job.id)}/teacher/a.safetensors")
    leases.succeed(db, lease, {}, [ArtifactRow("model.adtn", "adtn", 7, "0" * 64, artifact)])
    young = put(f"{records.folder(job.id)}/trials/a.json", age=23 * HOUR)
    assert look(db, store, fits_kept_s=30 * DAY) == 2
    assert keys(store) == {artifact, young}


def test_old_fits_go(db: Database, store: Store, put: Callable[..., str]) -> None:
    kept = {put("fits/a.safetensors", age=29 * DAY), put("fits/b.safetensors", age=HOUR)}
    put("fits/c.safetensors", age=31 * DAY)
    assert look(db, store, fits_kept_s=30 * DAY) == 1
    assert keys(store) == kept
    look(db, store, fits_kept_s=1.0)
    assert keys(store) == {"fits/b.safetensors"}, "what is younger than a day is left alone"


def test_many_objects_are_looked_at_page_by_page(
    db: Database, store: Store, put: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.store.PAGE_OBJECTS", 3)
    for i in range(10):
        put(f"fits/{i}.safetensors", age=(25 + 10 * (i % 2)) * DAY)
    assert look(db, store, fits_kept_s=30 * DAY) == 5
    assert keys(store) == {f"fits/{i}.safetensors" for i in range(0, 10, 2)}


def test_what_is_due_to_go_goes(db: Database, store: Store, put: Callable[..., str]) -> None:
    put("files/file_1/upload", age=0)
    with db.begin() as session:
        removals.condemn(session, "files/file_1")
    look(db, store, fits_kept_s=30 * DAY)
    assert keys(store) == set()


def test_a_process_that_is_to_end_looks_no_further(db: Database, store: Store, put: Callable[..., str]) -> None:
    kept = put("fits/a.safetensors", age=31 * DAY)
    stopping = threading.Event()
    stopping.set()
    assert tidy(db, store, fits_kept_s=30 * DAY, stopping=stopping) == 0
    assert keys(store) == {kept}


def test_what_is_left_of_a_killed_upload_goes(db: Database, store: Store, folder: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_UPLOAD, str(folder)], check=False)
    assert killed.returncode == 9
    (left,) = (path for path in folder.rglob("*") if path.is_file())
    assert keys(store) == set(), "a local store does not list it"
    look(db, store, fits_kept_s=DAY)
    assert left.exists(), "another process may still be writing it"
    make_old(left, 2 * DAY)
    look(db, store, fits_kept_s=DAY)
    assert not left.exists()
    assert not left.parent.exists()

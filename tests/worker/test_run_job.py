"""One attempt at a job: what the row says afterwards, and that an attempt which lost its lease writes nothing."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sqlalchemy.exc import OperationalError

from jobs import leases, records
from jobs.database import Database
from jobs.problems import ProblemError
from jobs.tables import ArtifactRecord
from worker import run_attempt as module
from worker.pipeline.progress import ProgressReporter
from worker.resources import Resources
from worker.run_job import run_job


def artifacts(db: Database, job_id: str) -> list[ArtifactRecord]:
    with db.read() as session:
        return records.artifacts(session, [job_id])[job_id]


def test_job_ends_with_a_report_and_artifacts_that_the_store_has(
    resources: Resources, db: Database, job_id: str, tmp_path: Path
) -> None:
    run_job(job_id, resources)
    row = records.get(db, "local", job_id)
    assert (row.status, row.attempt) == ("succeeded", 1)
    assert row.report is not None
    stored = artifacts(db, job_id)
    kinds = {"adtn", "loader", "dense", "report", "recipe", "card", "checksums"}
    assert {artifact.kind for artifact in stored} == kinds
    for artifact in stored:
        resources.store.get_to_file(artifact.key, tmp_path / artifact.name)
        assert (tmp_path / artifact.name).stat().st_size == artifact.bytes


@pytest.mark.usefixtures("unverified")
def test_finished_job_is_not_run_again(resources: Resources, db: Database, job_id: str) -> None:
    run_job(job_id, resources)
    before = records.get(db, "local", job_id)
    run_job(job_id, resources)
    after = records.get(db, "local", job_id)
    assert (after.attempt, after.finished_at) == (before.attempt, before.finished_at)


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("write", ["progress", "note", "succeed"])
def test_a_database_that_is_away_for_a_while_costs_no_job(
    write: str, resources: Resources, db: Database, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = getattr(leases, write)
    calls: list[int] = []

    def fail_at_first(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise OperationalError("UPDATE jobs", {}, sqlite3.OperationalError("database is locked"))
        return whole(*arguments)

    monkeypatch.setattr(leases, write, fail_at_first)
    run_job(job_id, resources)
    assert len(calls) > 1
    row = records.get(db, "local", job_id)
    assert (row.status, row.attempt) == ("succeeded", 1)


def test_job_that_is_gone_is_no_error(resources: Resources) -> None:
    run_job("job_00000000000000000000000000000000", resources)


@pytest.mark.usefixtures("unverified")
def test_attempt_that_lost_its_lease_leaves_the_job_to_the_next(
    resources: Resources, db: Database, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_lease(*_arguments: object) -> None:
        with db.begin() as session:
            row = records.find(session, "local", job_id)
            row.attempt += 1

    finish = module.finish
    monkeypatch.setattr(module, "finish", lambda *arguments: (lose_the_lease(), finish(*arguments)))
    run_job(job_id, resources)
    row = records.get(db, "local", job_id)
    assert row.status == "running"
    assert row.report is None
    assert artifacts(db, job_id) == []


def no_memory_of_torch() -> RuntimeError:
    """What torch raises where the machine has too little memory."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**55)
    return raised.value


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProblemError("dataset_mismatch", "..."), "dataset_mismatch"),
        (MemoryError("..."), "out_of_memory"),
        (no_memory_of_torch(), "out_of_memory"),
        (ZeroDivisionError("secret detail"), "internal_error"),
    ],
)
def test_error_in_the_pipeline_fails_the_job_with_its_code(
    resources: Resources,
    db: Database,
    job_id: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: str,
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(module, "run_pipeline", fail)
    run_job(job_id, resources)
    row = records.get(db, "local", job_id)
    assert row.status == "failed"
    assert row.error is not None
    assert row.error["code"] == code
    assert "secret" not in row.error["detail"]


def test_a_worker_that_cannot_load_what_runs_jobs_fails_the_job(
    resources: Resources, db: Database, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "worker.run_attempt", None)  # as the import system notes an absent module
    run_job(job_id, resources)
    row = records.get(db, "local", job_id)
    assert row.status == "failed"
    assert row.error is not None
    assert row.error["code"] == "internal_error"


def test_a_message_with_nothing_to_do_loads_no_torch() -> None:
    code = "import sys, worker.app, worker.run_job; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_progress_never_goes_back_and_ends_within_one() -> None:
    sent = []
    reporter = ProgressReporter(lambda progress, kind: sent.append(progress), lambda: None, interval_s=0)
    for stage in ("inspect", "plan", "fit", "fine_tune", "evaluate", "export", "verify"):
        reporter.stage(stage, "...")
        for step in range(1, 5):
            reporter.step(step / 4, "...")
    fractions = [progress.fraction for progress in sent]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == pytest.approx(1.0)

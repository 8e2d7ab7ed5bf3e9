"""A file is rejected for its own faults only."""

from pathlib import Path

import pytest

from jobs import files
from jobs.database import Database
from jobs.problems import ProblemError
from worker import inspect_file as module
from worker.resources import Resources


@pytest.mark.parametrize(
    ("code", "status"),
    [("storage_full", "processing"), ("internal_error", "processing"), ("truncated_file", "rejected")],
)
def test_file_is_not_rejected_for_a_fault_of_the_worker(
    resources: Resources, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, status: str
) -> None:
    with db.begin() as session:
        file = files.create(
            session, "file_" + "1" * 32, owner="local", filename="a", purpose="checkpoint", size=1, sha256="0"
        )
    source = tmp_path / "a"
    source.write_bytes(b"x")
    resources.store.put_file(file.upload_key, source)

    def fail(*_arguments: object) -> None:
        raise ProblemError(code, "...")

    monkeypatch.setattr(module, "read_upload", fail)
    try:
        module.inspect_file(file.id, resources)
    except ProblemError as problem:
        assert problem.code == code  # noqa: PT017 - raised for two of the three
    assert files.get(db, "local", file.id).status == status

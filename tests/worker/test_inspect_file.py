"""A file is rejected for its own faults only."""

from pathlib import Path
from typing import Any

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


def test_nothing_is_left_of_a_file_that_is_deleted_while_it_is_read(
    resources: Resources, db: Database, checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = "file_" + "2" * 32
    read_upload = module.read_upload

    def read_and_delete(*arguments: Any) -> Any:
        found = read_upload(*arguments)
        files.delete(db, resources.store, "local", file_id)
        return found

    monkeypatch.setattr(module, "read_upload", read_and_delete)
    resources.store.put_file(f"files/{file_id}/upload", checkpoint_file)
    with db.begin() as session:
        size = checkpoint_file.stat().st_size
        files.create(
            session, file_id, owner="local", filename="m.safetensors", purpose="checkpoint", size=size, sha256="0"
        )
    module.inspect_file(file_id, resources)
    with pytest.raises(FileNotFoundError):
        resources.store.size(f"files/{file_id}/checked.safetensors")

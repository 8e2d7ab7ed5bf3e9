"""What a report warns of."""

from pathlib import Path

import pytest

from jobs.schemas.settings import CompressionSettings
from worker.pipeline.caveats import caveats
from worker.pipeline.export import Artifact

NO_TARGET = CompressionSettings()
ONE_POINT = CompressionSettings.model_validate({"target": {"max_accuracy_drop": 1.0}})


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Artifact]:
    return [artifact(tmp_path, "adtn", 100), artifact(tmp_path, "dense", 1000)]


def artifact(folder: Path, kind: str, size: int) -> Artifact:
    path = folder / kind
    path.write_bytes(bytes(size))
    return Artifact(f"model.{kind}.safetensors", kind, path)


def codes(*arguments: object) -> list[str]:
    found = caveats(*arguments)  # type: ignore[arg-type]
    assert all(caveat["detail"] for caveat in found)
    return [caveat["code"] for caveat in found]


def test_a_clear_drop_in_a_smaller_file_needs_no_warning(artifacts: list[Artifact]) -> None:
    assert codes((0.98, 0.93), 10_000, artifacts, 1000, NO_TARGET, None) == []
    assert codes(None, 0, artifacts, 1000, NO_TARGET, None) == []


def test_a_change_that_the_samples_cannot_tell_is_named(artifacts: list[Artifact]) -> None:
    assert codes((0.98, 0.975), 360, artifacts, 1000, NO_TARGET, None) == ["drop_within_noise"]
    assert codes((0.975, 0.98), 360, artifacts, 1000, NO_TARGET, None) == ["drop_within_noise"]
    assert codes((1.0, 1.0), 360, artifacts, 1000, NO_TARGET, None) == ["drop_within_noise"]


def test_a_file_that_is_not_smaller_is_named(tmp_path: Path) -> None:
    both = [artifact(tmp_path, "adtn", 1000), artifact(tmp_path, "dense", 1000)]
    assert codes(None, 0, both, 9000, NO_TARGET, None) == ["adtn_not_smaller"]
    assert codes(None, 0, both[:1], 1000, NO_TARGET, None) == ["adtn_not_smaller"]
    assert codes(None, 0, both[1:], 1000, NO_TARGET, None) == []


def test_a_drop_on_the_test_samples_beyond_the_promise_is_named(artifacts: list[Artifact]) -> None:
    search = {"heldout_samples": 10_000, "baseline_heldout_accuracy": 0.98, "max_accuracy_drop": 1.0}
    assert codes((0.98, 0.95), 10_000, artifacts, 1000, ONE_POINT, search) == ["drop_beyond_target"]
    assert codes((0.98, 0.971), 10_000, artifacts, 1000, ONE_POINT, search) == []


def test_a_promise_finer_than_the_held_out_samples_is_named(artifacts: list[Artifact]) -> None:
    search = {"heldout_samples": 287, "baseline_heldout_accuracy": 0.98, "max_accuracy_drop": 1.0}
    assert codes((0.98, 0.971), 10_000, artifacts, 1000, ONE_POINT, search) == ["heldout_small"]

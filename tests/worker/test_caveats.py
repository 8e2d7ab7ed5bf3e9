"""What a report warns of."""

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.schemas.settings import CompressionSettings
from worker.confidence import Change
from worker.pipeline.caveats import caveats
from worker.pipeline.evaluate import Accuracies
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


def accuracies(samples: int, right: int, lost: int, won: int, commonest: float = 0.12) -> Accuracies:
    """Of an original that is right on so many samples, some of which are lost while others are won."""
    final = (right - lost + won) / samples
    return Accuracies(right / samples, 0.1, final, Change(samples, lost, won), Change(samples, 0, 0), commonest)


def search(samples: int, accuracy: float, ended_by: str = "sizes", smaller_untried: int = 0) -> dict[str, object]:
    return {
        "heldout_samples": samples,
        "baseline_heldout_accuracy": accuracy,
        "max_accuracy_drop": 1.0,
        "ended_by": ended_by,
        "smaller_untried": smaller_untried,
        "control_harmed": False,
        "commonest_heldout_share": 0.12,
    }


def codes(*arguments: object) -> list[str]:
    found = caveats(*arguments)  # type: ignore[arg-type]
    assert all(caveat["detail"] for caveat in found)
    return [caveat["code"] for caveat in found]


def test_a_clear_drop_in_a_smaller_file_needs_no_warning(artifacts: list[Artifact]) -> None:
    assert codes(accuracies(10_000, 9800, 600, 100), artifacts, 1000, NO_TARGET, None) == []
    assert codes(None, artifacts, 1000, NO_TARGET, None) == []


def test_a_change_that_the_samples_cannot_tell_is_named(artifacts: list[Artifact]) -> None:
    for lost, won in ((4, 2), (2, 4), (0, 0), (3, 3), (1, 0)):
        found = accuracies(360, 353, lost, won)
        assert codes(found, artifacts, 1000, NO_TARGET, None) == ["drop_within_noise"]
    assert codes(accuracies(360, 360, 0, 0), artifacts, 1000, NO_TARGET, None) == ["drop_within_noise"]


def test_a_teacher_that_training_has_made_worse_is_named(artifacts: list[Artifact]) -> None:
    def with_teacher(samples: int, lost: int, won: int) -> list[str]:
        right = 98 * samples // 100
        before = accuracies(samples, right, samples // 10, 0)
        found = replace(before, teacher=(right - lost + won) / samples, correction=Change(samples, lost, won))
        return codes(found, artifacts, 1000, NO_TARGET, None)

    # McNemar's exact p is 0.016 for 7 and 0 samples, 2e-7 for 60 and 15, and 0.51 for 100 and 90.
    assert with_teacher(360, 7, 0) == with_teacher(10_000, 60, 15) == ["teacher_worse"]
    assert with_teacher(10_000, 100, 90) == with_teacher(10_000, 15, 60) == with_teacher(360, 0, 0) == []


def test_a_fine_tuning_that_has_made_the_fitted_model_worse_is_named(artifacts: list[Artifact]) -> None:
    def tuned(lost: int, won: int, settings: CompressionSettings = NO_TARGET) -> list[str]:
        found = replace(accuracies(10_000, 9800, 1000, 0), tuning=Change(10_000, lost, won))
        return codes(found, artifacts, 1000, settings, None)

    assert tuned(60, 15) == ["tuning_worse"]
    assert tuned(15, 60) == tuned(100, 90) == tuned(0, 0) == []
    assert tuned(60, 15, CompressionSettings(gate_bits=4)) == []  # as fitted the gates were not rounded


def test_an_original_that_is_no_better_than_a_constant_answer_is_named(artifacts: list[Artifact]) -> None:
    """As where the data number the classes in another order."""
    for right, named in ((2, True), (120, True), (121, False)):
        found = accuracies(1000, right, 0, 400)
        assert ("original_at_chance" in codes(found, artifacts, 1000, NO_TARGET, None)) is named


def test_a_collapse_is_named_where_only_the_teacher_was_good(artifacts: list[Artifact]) -> None:
    untrained = accuracies(1000, 100, 0, 10)
    assert "at_chance" not in codes(untrained, artifacts, 1000, NO_TARGET, None)
    assert "at_chance" in codes(replace(untrained, teacher=0.9), artifacts, 1000, NO_TARGET, None)


def test_the_same_change_is_noise_or_not_by_the_samples_that_it_comes_from(artifacts: list[Artifact]) -> None:
    # McNemar's exact p is 0.0005 for 30 and 8 of them, and 0.29 for 222 and 200: both are 22 samples less.
    assert codes(accuracies(10_000, 9822, 30, 8), artifacts, 1000, NO_TARGET, None) == []
    (found,) = caveats(accuracies(10_000, 9822, 222, 200), artifacts, 1000, NO_TARGET, None)
    assert found["code"] == "drop_within_noise"
    # 1.96 * sqrt(424 - 22 * 22 / 10,002) is 40.4 samples.
    for part in ("-0.22 points", "10,000 test samples", "222 of them lost", "200 won", "-0.62 to +0.18 points"):
        assert part in found["detail"]


def test_without_a_changed_sample_the_noise_is_not_none(artifacts: list[Artifact]) -> None:
    (found,) = caveats(accuracies(300, 290, 0, 0), artifacts, 1000, NO_TARGET, None)
    assert "-0.92 to +0.92 points" in found["detail"]  # 1.96 * sqrt(2) of 302


def test_a_model_no_better_than_one_answer_to_all_is_named(artifacts: list[Artifact]) -> None:
    assert codes(accuracies(1000, 980, 860, 0), artifacts, 1000, NO_TARGET, None) == ["at_chance"]  # exactly 0.12
    (found,) = caveats(accuracies(1000, 980, 890, 0), artifacts, 1000, NO_TARGET, None)
    for part in ("9.00%", "12.00%", "learning rate", "more numbers"):
        assert part in found["detail"]
    assert codes(accuracies(1000, 980, 859, 0), artifacts, 1000, NO_TARGET, None) == []


def test_an_original_that_has_learned_nothing_itself_is_no_collapse(artifacts: list[Artifact]) -> None:
    assert codes(accuracies(1000, 120, 100, 20), artifacts, 1000, NO_TARGET, None) == ["original_at_chance"]
    assert codes(accuracies(1000, 950, 100, 20, commonest=0.97), artifacts, 1000, NO_TARGET, None) == [
        "original_at_chance"
    ]


def test_a_file_that_is_not_smaller_is_named(tmp_path: Path) -> None:
    files = [artifact(tmp_path, kind, size) for kind, size in (("adtn", 1000), ("onnx", 1001), ("dense", 1002))]
    assert codes(None, files, 1002, NO_TARGET, None) == []
    (found,) = caveats(None, files, 1001, NO_TARGET, None)
    assert found["code"] == "not_smaller"
    assert found["detail"].startswith("model.onnx.safetensors has 1,001 bytes, ")
    (found,) = caveats(None, files, 1000, NO_TARGET, None)
    for part in ("adtn.safetensors has 1,000 bytes", "onnx.safetensors has 1,001 bytes", "tensors have 1,000"):
        assert part in found["detail"]


def test_dense_files_alone_are_named_with_the_export_that_is_smaller(tmp_path: Path) -> None:
    (found,) = caveats(None, [artifact(tmp_path, "dense", 1002)], 1000, NO_TARGET, None)
    assert found["code"] == "not_smaller"
    assert "the export 'adtn'" in found["detail"]


def test_a_drop_on_the_test_samples_beyond_the_promise_is_named(artifacts: list[Artifact]) -> None:
    found = search(10_000, 0.98)
    assert codes(accuracies(10_000, 9800, 350, 50), artifacts, 1000, ONE_POINT, found) == ["drop_beyond_target"]
    assert codes(accuracies(10_000, 9800, 140, 50), artifacts, 1000, ONE_POINT, found) == []


def test_a_promise_finer_than_the_held_out_samples_is_named(artifacts: list[Artifact]) -> None:
    found = accuracies(10_000, 9800, 140, 50)
    assert codes(found, artifacts, 1000, ONE_POINT, search(287, 0.98)) == ["heldout_small"]


@pytest.mark.parametrize(("ended_by", "cap"), [("trials", "search.max_trials"), ("minutes", "search.max_minutes")])
def test_a_cap_that_left_smaller_sizes_untried_is_named(artifacts: list[Artifact], ended_by: str, cap: str) -> None:
    measured = accuracies(10_000, 9800, 140, 50)
    (found,) = caveats(measured, artifacts, 1000, ONE_POINT, search(10_000, 0.98, ended_by, 3))
    assert found["code"] == "search_capped"
    assert found["detail"].startswith(f"the search was ended by {cap}: 3 smaller sizes")
    assert codes(measured, artifacts, 1000, ONE_POINT, search(10_000, 0.98, ended_by)) == []
    assert codes(measured, artifacts, 1000, ONE_POINT, search(10_000, 0.98, "sizes", 3)) == []


def test_a_promise_that_a_constant_answer_would_keep_is_named(artifacts: list[Artifact]) -> None:
    measured = accuracies(10_000, 9800, 140, 50)
    for share, expected in ((0.969, []), (0.971, ["heldout_commonest"])):
        found = search(10_000, 0.98) | {"commonest_heldout_share": share}
        assert codes(measured, artifacts, 1000, ONE_POINT, found) == expected


def test_a_training_that_harms_the_original_is_named(artifacts: list[Artifact]) -> None:
    found = search(10_000, 0.98) | {"control_harmed": True}
    assert codes(accuracies(10_000, 9800, 140, 50), artifacts, 1000, ONE_POINT, found) == ["training_harms"]


def test_held_out_samples_that_the_original_was_trained_on_are_named(artifacts: list[Artifact]) -> None:
    measured = accuracies(10_000, 9200, 140, 50)
    (found,) = caveats(measured, artifacts, 1000, ONE_POINT, search(10_000, 0.998))
    assert found["code"] == "heldout_seen"
    for part in ("99.80% of them", "92.00% of the test samples", "larger model", "a validation split"):
        assert part in found["detail"]
    assert codes(measured, artifacts, 1000, NO_TARGET, None) == []


def test_held_out_samples_that_are_no_easier_than_others_need_no_warning(artifacts: list[Artifact]) -> None:
    measured = accuracies(10_000, 9200, 140, 50)
    # With 1.96 * sqrt(2 * 0.92 * 0.08 / 10,000) = 0.0075, half a point more is chance and one point is not.
    assert codes(measured, artifacts, 1000, ONE_POINT, search(10_000, 0.925)) == []
    assert codes(measured, artifacts, 1000, ONE_POINT, search(10_000, 0.930)) == ["heldout_seen"]
    assert codes(measured, artifacts, 1000, ONE_POINT, search(10_000, 0.910)) == []


def test_few_held_out_samples_cannot_show_that_they_were_seen(artifacts: list[Artifact]) -> None:
    measured = accuracies(10_000, 9200, 140, 50)
    assert codes(measured, artifacts, 1000, ONE_POINT, search(300, 0.930)) == ["heldout_small"]
    assert codes(measured, artifacts, 1000, ONE_POINT, search(300, 1.0)) == ["heldout_small", "heldout_seen"]

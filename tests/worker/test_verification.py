"""A fresh process opens the artifacts; whatever does not hold together fails the job."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.digits import DigitsLeNet, accuracy

import adtn
from jobs.problems import ProblemError
from worker.confidence import Change
from worker.datasets import load, write_named
from worker.examination import Question, require_same
from worker.pipeline.evaluate import Accuracies
from worker.pipeline.verify import agree, verify
from worker.verification import absent


@pytest.fixture
def question(tmp_path: Path) -> Question:
    """A dense and an ADTN artifact of the same weights."""
    torch.manual_seed(0)
    model = DigitsLeNet().eval()
    adtn.compress(model, {"fc1.weight": adtn.brick_wall(sites=13, depth=1)}, adtn.FitOptions(steps=2))
    paths = {"adtn": tmp_path / "model.adtn.safetensors", "dense": tmp_path / "model.dense.safetensors"}
    adtn.save(model, paths["adtn"])
    save_file(adtn.decode(paths["adtn"]), paths["dense"])
    return Question(
        {kind: str(path) for kind, path in paths.items()},
        "lenet5",
        str(write_named("digits", tmp_path)),
        None,
        "cpu",
        input_shape=[1, 8, 8],
    )


def accuracy_of(question: Question) -> float:
    model = DigitsLeNet().eval()
    model.load_state_dict(adtn.decode(Path(question.artifacts["adtn"])))
    data = load("digits")
    return accuracy(model, data.test_x, data.test_y)


def reported(final: float, samples: int = 360) -> Accuracies:
    none = Change(samples, 0, 0)
    return Accuracies(baseline=final, after_fit=final, final=final, change=none, tuning=none, commonest=0.1)


def test_artifacts_with_the_reported_accuracy_are_verified(question: Question) -> None:
    share = accuracy_of(question)
    found = {"accuracy": share, "difference": None}
    assert verify(question, reported(share), lambda: None) == {
        "fresh_process": True,
        "accuracy": share,
        "artifacts": ["adtn", "dense"],
        "by_artifact": {"adtn": found, "dense": found},
    }


def test_report_that_says_another_accuracy_is_refused(question: Question) -> None:
    with pytest.raises(ProblemError, match=r"expected accuracy 0\.9"):
        verify(question, reported(0.9), lambda: None)


@pytest.mark.parametrize(
    ("samples", "others", "exact", "other_order"),
    [
        *[(20, 0, True, True), (20, 1, False, True), (20, 2, False, False)],
        *[(999, 1, False, True), (999, 2, False, False)],
        *[(10_000, 1, False, True), (10_000, 10, False, True), (10_000, 11, False, False)],
    ],
)
def test_a_sum_in_another_order_may_change_one_answer_or_one_in_a_thousand(
    samples: int, others: int, exact: bool, other_order: bool
) -> None:
    for found in (samples // 2 - others, samples // 2 + others):
        assert agree(found / samples, reported((samples // 2) / samples, samples), exact=True) is exact
        assert agree(found / samples, reported((samples // 2) / samples, samples), exact=False) is other_order
    assert not agree(None, reported(0.5), exact=False)
    assert not agree(0.5, None, exact=False)


def test_artifacts_with_different_weights_are_refused(question: Question, tmp_path: Path) -> None:
    state = adtn.decode(Path(question.artifacts["adtn"]))
    state["fc3.bias"] = state["fc3.bias"] + 1e-6
    path = tmp_path / "other.safetensors"
    save_file(state, path)
    weights_alone = replace(
        question,
        artifacts=question.artifacts | {"dense": str(path)},
        architecture=None,
        dataset=None,
        input_shape=None,
    )
    with pytest.raises(ProblemError, match=r"fc3\.bias"):
        verify(weights_alone, None, lambda: None)


def test_damaged_artifact_is_refused(question: Question) -> None:
    path = Path(question.artifacts["dense"])
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ProblemError, match="cannot be opened in a fresh process: RuntimeError: the artifact dense: "):
        verify(question, reported(0.5), lambda: None)


def test_weights_are_held_against_each_other_key_by_key() -> None:
    state = {"a": torch.tensor([1.0, -4.0]), "n": torch.tensor(3)}
    require_same(state, {"a": state["a"] * (1 + 1e-5), "n": state["n"]}, "x and y", 1e-3)
    for other in (
        {"a": state["a"]},
        {"a": state["a"].double(), "n": state["n"]},
        {"a": state["a"][:1], "n": state["n"]},
        {"a": state["a"] + 0.01, "n": state["n"]},
        {"a": state["a"] * torch.nan, "n": state["n"]},
    ):
        with pytest.raises(RuntimeError, match="the artifacts x and y"):
            require_same(other, state, "x and y", 1e-3)
    with pytest.raises(RuntimeError, match="differ in 'a'"):
        require_same({"a": state["a"] * (1 + 1e-6), "n": state["n"]}, state, "x and y", 0.0)
    half = {"a": torch.tensor([1.0, -1.0], dtype=torch.bfloat16)}
    require_same({"a": torch.tensor([1.0, -1.0 - 2**-7]).bfloat16()}, half, "x and y", 1e-3)  # the next number
    with pytest.raises(RuntimeError, match="differ in 'a'"):
        require_same({"a": torch.tensor([1.0, -1.0 - 2**-6]).bfloat16()}, half, "x and y", 1e-3)


def test_absent_package_cannot_be_imported() -> None:
    with absent("antigravity"), pytest.raises(ImportError, match="antigravity is not installed here"):
        import antigravity  # noqa: F401


def test_package_that_is_there_already_is_not_called_absent() -> None:
    with pytest.raises(RuntimeError, match="already imported"), absent("torch"):
        pass

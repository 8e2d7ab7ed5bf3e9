"""The plot of a search's trials."""

from typing import Any
from xml.etree import ElementTree

from worker.pipeline.pareto import pareto_svg

SVG = "{http://www.w3.org/2000/svg}"


def trial(parameters: int, accuracy: float, kept: bool = True, seconds: float = 1.0) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "heldout_accuracy": accuracy,
        "drop": round(100 * (0.98 - accuracy), 4),
        "seconds": seconds,
        "kept": kept,
        "fine_tuned": True,
    }


def search(*trials: dict[str, Any]) -> dict[str, Any]:
    return {"trials": list(trials), "baseline_heldout_accuracy": 0.98, "max_accuracy_drop": 1.0}


def drawn(*trials: dict[str, Any]) -> ElementTree.Element:
    return ElementTree.fromstring(pareto_svg(search(*trials)))


def circles(root: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in root.iter(f"{SVG}circle")]


def test_every_trial_is_a_circle_larger_to_the_right_and_better_above() -> None:
    (small, large) = circles(drawn(trial(1000, 0.91, kept=False), trial(9000, 0.975)))
    assert small[0] < large[0]
    assert small[1] > large[1]


def test_equal_steps_of_the_ratio_are_equal_distances() -> None:
    x = [place[0] for place in circles(drawn(trial(100, 0.9), trial(1000, 0.95), trial(10_000, 0.97)))]
    assert abs((x[1] - x[0]) - (x[2] - x[1])) < 0.2


def test_the_line_joins_the_trials_that_no_other_beats() -> None:
    root = drawn(trial(100, 0.9), trial(1000, 0.85), trial(10_000, 0.97))
    (line,) = root.iter(f"{SVG}polyline")
    assert len(line.attrib["points"].split()) == 2


def test_the_same_trials_give_the_same_bytes_whatever_the_seconds() -> None:
    first, second = (pareto_svg(search(trial(100, 0.9, seconds=s), trial(5000, 0.97, seconds=s))) for s in (1.0, 2.0))
    assert first == second


def test_a_trial_that_diverged_is_left_out() -> None:
    diverged = trial(500, 0.9) | {"heldout_accuracy": None, "drop": None, "kept": False}
    assert len(circles(drawn(diverged, trial(9000, 0.975)))) == 1


def least(*trials: dict[str, Any], control: float) -> list[str]:
    found = search(*trials) | {"control_heldout_accuracy": control}
    texts = [text.text or "" for text in ElementTree.fromstring(pareto_svg(found)).iter(f"{SVG}text")]
    return [text for text in texts if text.startswith("least")]


def test_a_trial_is_above_the_line_of_what_it_is_compared_with() -> None:
    trained, fitted = trial(1000, 0.96), trial(9000, 0.975) | {"fine_tuned": False}
    assert least(trained, fitted, control=0.97) == [
        "least that keeps the promise, 96.00%",
        "least that keeps the promise without training, 97.00%",
    ]
    assert least(trained, control=0.97) == ["least that keeps the promise, 96.00%"]
    assert least(trained, fitted, control=0.98) == ["least that keeps the promise, 97.00%"]


def test_a_single_trial_can_be_drawn() -> None:
    assert len(circles(drawn(trial(61_706, 0.98)))) == 1
    assert len(circles(drawn(trial(7, 1.0)))) == 1


def test_no_accuracy_is_below_nothing_or_above_all() -> None:
    found = search(trial(1000, 0.1), trial(9000, 1.0)) | {"max_accuracy_drop": 100.0}
    texts = [text.text or "" for text in ElementTree.fromstring(pareto_svg(found)).iter(f"{SVG}text")]
    shares = [float(text.split()[-1].rstrip("%")) for text in texts if text.endswith("%")]
    assert (min(shares), max(shares)) == (0.0, 100.0)
    assert "least that keeps the promise, 0.00%" in texts

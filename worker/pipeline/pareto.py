"""A plot of the trials of a search: accuracy over size, as an SVG file that needs nothing else."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 60
INK, GREY, KEPT, BROKEN = "#222222", "#999999", "#1b7f4b", "#b3412e"


def pareto_svg(search: Mapping[str, Any]) -> str:
    """Draw the trials; the same ones give the same bytes.

    Filled circles kept the promise, open ones did not. The line joins the trials that no other one beats in both size
    and accuracy. Dashed lines are the original's accuracy and the least that keeps the promise: after fine-tuning, and
    of trials that count as they were fitted, where these are compared with another accuracy.

    Args:
        search: The report's section of that name; at least one of its trials has an accuracy.
    """
    trials = [trial for trial in search["trials"] if trial["heldout_accuracy"] is not None]
    baseline = search["baseline_heldout_accuracy"]
    least = _least(search, trials)
    axes = _Axes(
        [trial["parameters"] for trial in trials],
        [*(trial["heldout_accuracy"] for trial in trials), baseline, *least.values()],
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        "<title>Held-out accuracy over the number of parameters</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *axes.drawn(),
        *_level(axes, baseline, "original", -4),
        *(line for i, (name, accuracy) in enumerate(least.items()) for line in _level(axes, accuracy, name, 14, i > 0)),
        f'<polyline fill="none" stroke="{KEPT}" points="{_path(axes, _front(trials))}"/>',
        *(_circle(axes, trial) for trial in trials),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _least(search: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The least accuracies that keep the promise, by what the plot calls them."""
    drop, name = search["max_accuracy_drop"] / 100, "least that keeps the promise"
    baseline, control = search["baseline_heldout_accuracy"], search.get("control_heldout_accuracy")
    if control is None or control == baseline:
        originals = {name: baseline}
    else:
        originals = {name: control}
        if not all(trial["fine_tuned"] for trial in trials):
            originals[f"{name} without training"] = baseline
    return {name: max(0.0, original - drop) for name, original in originals.items()}


class _Axes:
    """Where a size (on a logarithmic scale) and an accuracy are on the page."""

    def __init__(self, sizes: Sequence[int], accuracies: Sequence[float]) -> None:
        self.sizes = min(sizes) / 1.25, max(sizes) * 1.25
        margin = 0.05 * (max(accuracies) - min(accuracies)) + 0.005
        self.accuracies = max(0.0, min(accuracies) - margin), min(1.0, max(accuracies) + margin)

    def x(self, size: float) -> float:
        """From the left."""
        low, high = map(math.log, self.sizes)
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(size) - low) / (high - low)

    def y(self, accuracy: float) -> float:
        """From the top."""
        low, high = self.accuracies
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (accuracy - low) / (high - low)

    def drawn(self) -> list[str]:
        """Frame, ticks and names."""
        right, bottom, middle = WIDTH - RIGHT, HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
        lines = [
            f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="{INK}"/>',
            _text(middle, HEIGHT - 16, "parameters of the whole model", "middle"),
            _text(LEFT - 54, TOP - 16, "held-out accuracy", "start"),
        ]
        for size in _ticks(*self.sizes):
            at = f"{self.x(size):.1f}"
            lines.append(f'<path d="M{at} {bottom}v5" stroke="{INK}"/>')
            lines.append(_text(float(at), bottom + 20, f"{size:,}", "middle"))
        low, high = self.accuracies
        for i in range(5):
            accuracy = low + (high - low) * i / 4
            at = f"{self.y(accuracy):.1f}"
            lines.append(f'<path d="M{LEFT} {at}h-5" stroke="{INK}"/>')
            lines.append(_text(LEFT - 8, float(at) + 4, f"{accuracy:.1%}", "end"))
        return lines


def _ticks(low: float, high: float) -> list[int]:
    """Numbers 1, 2 and 5 times a power of ten within the bounds; each bound where there is none."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [digit * 10**decade for decade in decades if decade >= 0 for digit in (1, 2, 5)]
    return [number for number in found if low <= number <= high] or [math.ceil(low), math.floor(high)]


def _front(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that are more accurate than every smaller one."""
    front: list[Mapping[str, Any]] = []
    for trial in sorted(trials, key=lambda trial: (trial["parameters"], -trial["heldout_accuracy"])):
        if not front or trial["heldout_accuracy"] > front[-1]["heldout_accuracy"]:
            front.append(trial)
    return front


def _path(axes: _Axes, trials: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(f"{axes.x(trial['parameters']):.1f},{axes.y(trial['heldout_accuracy']):.1f}" for trial in trials)


def _circle(axes: _Axes, trial: Mapping[str, Any]) -> str:
    x, y = axes.x(trial["parameters"]), axes.y(trial["heldout_accuracy"])
    fill, stroke = (KEPT, KEPT) if trial["kept"] else ("white", BROKEN)
    tip = f"{trial['parameters']:,} parameters, {trial['heldout_accuracy']:.2%}, drop {trial['drop']:.2f} points"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{stroke}"><title>{tip}</title></circle>'


def _level(axes: _Axes, accuracy: float, name: str, text_below: int, at_left: bool = False) -> list[str]:
    """A dashed line and its name, at the right or the left end: lines may be close to each other."""
    y = axes.y(accuracy)
    x, anchor = (LEFT + 4, "start") if at_left else (WIDTH - RIGHT - 4, "end")
    return [
        f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{GREY}" stroke-dasharray="4 4"/>',
        _text(x, y + text_below, f"{name}, {accuracy:.2%}", anchor),
    ]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{INK}">{text}</text>'

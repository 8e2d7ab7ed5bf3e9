"""Which forms of a sequential network fit its weights, and images of which size they take."""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.problems import Fault, ProblemError
from worker.architectures.geometry import Form
from worker.architectures.layout import Layout
from worker.architectures.networks import forms
from worker.architectures.shapes import as_image, mismatch

USUAL_SIDES = (32, 28, 224)
MAX_SIDE = 4096


@dataclass(frozen=True)
class Candidate:
    """A form with a sample size that fits the weights.

    Attributes:
        form: Strides, padding, pools and the average.
        input_shape: (channels, height, width).
    """

    form: Form
    input_shape: tuple[int, int, int]


def candidates(layout: Layout, sizes: Mapping[str, int], input_shape: tuple[int, ...] | None) -> list[Candidate]:
    """The forms that fit the weights, in the order of `forms`; of those that do the same the first.

    Args:
        layout: Where the layers stand.
        sizes: All that is named in `Layout.pattern`.
        input_shape: Of one sample, (channels, height, width), or (height, width) for one channel; None if there are no
            data: then each form gets a size that fits, a usual one where it can.

    Raises:
        ProblemError: None fits: `checkpoint_mismatch` if no image does, else `dataset_mismatch`.
    """
    known = forms(layout.network, [sizes[f"kernel{number}"] for number in layout.numbers])
    width, features = sizes[f"conv{layout.numbers[-1]}"], sizes["features"]
    area, rest = divmod(features, width)
    if rest:
        raise _misfit(layout, sizes, f"a multiple of {layout.convolutions[-1]}'s {width} channels")
    derived = [
        Candidate(form, (sizes["channels"], *sides)) for form in known if (sides := _sides(form, area)) is not None
    ]
    if not derived:
        raise _misfit(layout, sizes, f"{width} channels on a map that some image leads to")
    if input_shape is None:
        return _distinct(derived)
    shape = as_image(f"{layout.convolutions[0]}.weight", sizes["channels"], input_shape)
    fitting = [Candidate(form, shape) for form in known if form.area(*shape[1:]) == area]
    if not fitting:
        counts = dict.fromkeys(str(width * form.area(*shape[1:])) for form in known)
        shapes = dict.fromkeys(str(candidate.input_shape) for candidate in derived)
        raise ProblemError(
            "dataset_mismatch",
            f"{layout.linear[0]}.weight expects {features} features, samples of shape {shape} give "
            f"{', '.join(counts)}; samples of these shapes would fit: {', '.join(shapes)}",
        )
    return _distinct(fitting)


def _misfit(layout: Layout, sizes: Mapping[str, int], expected: str) -> ProblemError:
    """The problem of a number of features that no form has."""
    outputs = "fc1" if len(layout.linear) > 1 else "classes"
    detail = f"expected ({outputs}, {expected}), got ({sizes[outputs]}, {sizes['features']})"
    return mismatch(layout.network.name, [Fault(f"{layout.linear[0]}.weight", detail, "checkpoint_mismatch")])


def _distinct(found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates without those that do the same as an earlier one."""
    by_effect: dict[object, Candidate] = {}
    for candidate in found:
        by_effect.setdefault(candidate.form.effect(*candidate.input_shape[1:]), candidate)
    return list(by_effect.values())


def _sides(form: Form, area: int) -> tuple[int, int] | None:
    """(height, width) of an image that gives the classifier a map of an area, as square as it can be."""
    if form.grid is not None:
        side = _side(form, form.grid, exactly=False) if area == form.grid**2 else None
        return None if side is None else (side, side)
    rows = next(rows for rows in range(math.isqrt(area), 0, -1) if area % rows == 0)
    height, width = _side(form, rows), _side(form, area // rows)
    return None if height is None or width is None else (height, width)


def _side(form: Form, target: int, exactly: bool = True) -> int | None:
    """A side of an image that gives a map of a length, or at least of it; a usual one or else the shortest."""
    for side in USUAL_SIDES:
        if form.map_length(side) == target or (form.map_length(side) > target and not exactly):
            return side
    # Maps never get shorter as images get longer.
    side = 1 + bisect.bisect_left(range(1, MAX_SIDE + 1), target, key=form.map_length)
    return side if side <= MAX_SIDE and form.map_length(side) == target else None

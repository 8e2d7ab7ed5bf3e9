"""From a job's settings to its plan: the same rules in the service, which refuses, and in the worker, which encodes.

Only the parts of `adtn` that load no torch are imported here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from adtn.allocation import Allocation, allocate, by_default
from adtn.candidates import Candidate, Candidates, candidates
from adtn.curve import Curve
from adtn.errors import PlanError, StructureError
from adtn.plan import Layer, Plan, PlanEntry, StructureChoice, Target, make_plan
from adtn.selection import Names, named_layers
from adtn.structure import AnyStructure
from jobs.problems import Fault, ProblemError
from jobs.schemas.settings import CompressionSettings, StructureSettings, TargetSettings

SIZE_STEP = 2**0.25
"""A search tries budgets that differ by this factor: noise in the accuracy hides finer differences."""

MEASURED_SIZES = 5
"""Structures of each layer's ladder that are fitted to measure it; between them the loss is interpolated."""
QUICK_STEPS = 50
"""Steps of these fits: the five cost about as much as the fit that follows, and tell sizes apart as well."""

MEASURING_TIME = 0.5
"""The share of a search's minutes that measuring may take at most; without a search it has as many."""
MOST_LOOKED_AT = 2000
"""Held-out samples for each size that is measured: an average over outputs needs fewer than an accuracy."""
LEAST_LOOKED_AT = 200
HELD_OUT_SHARE = 0.2
"""Of the training samples of each class, where the data have no validation split."""
MOST_FLOPS = 10**11
"""Of one look at the samples. Every layer is looked at in several sizes, each time with the whole network."""

MOST_KEPT_BYTES = 4 * 2**30
"""Of the outputs of layers that fine-tuning computes once and keeps on the worker's disk; more are computed anew."""

# Where in the settings the cause of each problem stands.
POINTERS = {
    "layer_not_found": "/compression/layers",
    "layer_not_eligible": "/compression/layers",
    "group_invalid": "/compression/layers",
    "nothing_to_compress": "/compression",
    "target_unreachable": "/compression/target",
}


def plan_of(settings: CompressionSettings, layers: Sequence[Layer], curves: Mapping[str, Curve] | None = None) -> Plan:
    """The plan that settings ask for; where they ask for an accuracy, the largest that may be tried.

    Args:
        settings: Layers, structure and target.
        layers: All that the checkpoint has.
        curves: What is measured of the layers, by key; without, numbers are shared evenly.

    Raises:
        ProblemError: layer_not_found, layer_not_eligible, group_invalid, target_unreachable, nothing_to_compress, or
            validation_failed for a structure that cannot be built.
    """
    if is_searched(settings):
        return plans_to_try(settings, layers, curves)[-1]
    return _plan(settings, layers, size_of(settings.target), curves)


def plans_to_try(
    settings: CompressionSettings, layers: Sequence[Layer], curves: Mapping[str, Curve] | None = None
) -> list[Plan]:
    """The plans among which a search finds the smallest that keeps the accuracy; from the smallest model upwards.

    Args:
        settings: Layers and structure.
        layers: All that the checkpoint has.
        curves: As in `plan_of`.

    Returns:
        At least one plan; each makes the model larger than the one before.

    Raises:
        ProblemError: As `plan_of`.
    """
    budget = float(sum(layer.entries for layer in layers if layer.eligible))
    with _told_where():
        plan_within = _planner(settings, layers, curves)
    plans: dict[int, Plan] = {}
    while True:
        try:
            with _told_where():
                plan = plan_within(Target(parameters=max(1, int(budget))))
        except ProblemError as error:
            if error.code != "target_unreachable" or not plans:
                raise
            return [plans[saved] for saved in sorted(plans, reverse=True)]
        plans.setdefault(plan.saved, plan)
        budget /= SIZE_STEP


def most_trials(plans: int, max_trials: int) -> int:
    """How many trials a search over that many plans takes at most.

    It bisects them up to three times: for the smallest that keeps the accuracy, among larger ones where training came
    to nothing, and once more below what was found (`worker.pipeline.search`). Where training comes to nothing at size
    after size, it may take a few more than that, within its cap.
    """
    return min(max_trials, plans, 3 * plans.bit_length())


def is_measured(settings: CompressionSettings) -> bool:
    """Whether the worker measures the layers before it plans: so if it may choose structures, and a target binds it."""
    return settings.structure == "auto" and settings.target is not None


def to_measure(settings: CompressionSettings, layers: Sequence[Layer]) -> Candidates | None:
    """The layers that are measured; None if none are, as where there is a single one and nothing to be shared out.

    Args:
        settings: Layers, structure and target.
        layers: All that the checkpoint has.

    Raises:
        ProblemError: As `candidates_of`.
    """
    if not is_measured(settings):
        return None
    found = candidates_of(settings, layers)
    return found if len(found.items) > 1 else None


def most_to_measure(settings: CompressionSettings, found: Candidates) -> int:
    """Numbers that the layers which are measured may have together: what could not be chosen is not measured."""
    target = size_of(settings.target)
    return target.limit(found.original) if target else found.original


def plans_to_measure(found: Candidates, limit: int) -> list[Plan]:
    """What is fitted together: the smallest size of each layer, the next one of each that has another, and so on.

    Args:
        found: The layers that are measured.
        limit: Numbers for all of them together.
    """
    sizes = {
        item.layer: sizes_to_measure(item, limit - found.smallest + item.rungs[0].parameters) for item in found.items
    }
    most = max((len(rungs) for rungs in sizes.values()), default=0)
    return [
        Plan(tuple(PlanEntry(layer, rungs[place]) for layer, rungs in sizes.items() if place < len(rungs)))
        for place in range(most)
    ]


def sizes_to_measure(candidate: Candidate, room: int) -> Sequence[AnyStructure]:
    """A few rungs of a ladder, spread evenly from the lowest to the highest that has at most `room` numbers."""
    rungs = [rung for rung in candidate.rungs if rung.parameters <= room] or candidate.rungs[:1]
    count = min(MEASURED_SIZES, len(rungs))
    places = {round(i * (len(rungs) - 1) / max(1, count - 1)) for i in range(count)}
    return [rungs[place] for place in sorted(places)]


def samples_looked_at(flops: float) -> int:
    """Held-out samples, where there are so many, through which each size of a layer is measured: a few seconds' work.

    Args:
        flops: Floating-point operations of one sample's way through the network.
    """
    return max(LEAST_LOOKED_AT, min(MOST_LOOKED_AT, int(MOST_FLOPS / max(1.0, flops))))


def is_searched(settings: CompressionSettings) -> bool:
    """Whether the target is an accuracy, so that the worker has to search for the size."""
    return settings.target is not None and settings.target.max_accuracy_drop is not None


def candidates_of(settings: CompressionSettings, layers: Sequence[Layer]) -> Candidates:
    """The layers that may be encoded where structures are left to the planner.

    Raises:
        ProblemError: layer_not_found, layer_not_eligible, group_invalid or nothing_to_compress.
    """
    with _told_where():
        return candidates(layers, _names(settings))


def shapes_to_plan(settings: CompressionSettings, layers: Sequence[Layer]) -> int:
    """For how many shapes structures are chosen or built, which takes time for each.

    Raises:
        ProblemError: layer_not_found, layer_not_eligible or group_invalid.
    """
    names = _names(settings)
    with _told_where():
        asked = layers if names is None else named_layers(layers, names)
    return len({layer.shape for layer in asked if layer.eligible})


def size_of(target: TargetSettings | None) -> Target | None:
    """The target as a size, where it is one."""
    if target is None or target.max_accuracy_drop is not None:
        return None
    return Target(parameters=target.parameters, ratio=target.ratio)


def fault(code: str, pointer: str, detail: str) -> ProblemError:
    """A problem with a single cause, at `pointer` in the settings."""
    return ProblemError(code, detail, [Fault(pointer, detail, code)])


def _plan(
    settings: CompressionSettings,
    layers: Sequence[Layer],
    target: Target | None,
    curves: Mapping[str, Curve] | None,
) -> Plan:
    """A plan of a given size."""
    with _told_where():
        if settings.structure == "auto":
            found = candidates(layers, _names(settings))
            return by_default(found) if target is None else allocate(found, target, curves)
        return make_plan(layers, _names(settings), _choice(settings.structure), target)


def _planner(
    settings: CompressionSettings, layers: Sequence[Layer], curves: Mapping[str, Curve] | None
) -> Callable[[Target], Plan]:
    """What makes plans of several sizes; where structures are chosen, what the plans have in common is found once."""
    if settings.structure == "auto":
        return Allocation(candidates(layers, _names(settings)), curves).within
    return partial(make_plan, layers, _names(settings), _choice(settings.structure))


def _names(settings: CompressionSettings) -> Names | None:
    return None if settings.layers == "auto" else settings.layers


def _choice(structure: StructureSettings) -> StructureChoice:
    return StructureChoice(
        depth=None if structure.depth == "auto" else structure.depth,
        gate_sites=None if structure.gate_sites == "auto" else structure.gate_sites,
        activation=structure.activation,
    )


@contextmanager
def _told_where() -> Iterator[None]:
    """Errors of the library, with the place in the settings that caused them."""
    try:
        yield
    except PlanError as error:
        raise fault(error.code, POINTERS[error.code], str(error)) from error
    except StructureError as error:
        raise fault("validation_failed", "/compression/structure", str(error)) from error

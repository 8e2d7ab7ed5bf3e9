"""Compress a model: fit an ADTN to the weight of every layer of a plan and put it in place."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from adtn.encoding import encode_layer, parameter_of
from adtn.errors import ShapeError
from adtn.fitting import FitOptions, FitTask, fit_each
from adtn.module import ADTN
from adtn.moments import input_moments
from adtn.plan import Plan
from adtn.sharing import joined
from adtn.structure import AnyStructure


@dataclass(frozen=True)
class EncodedLayer:
    """What became of one layer.

    Args:
        key: Of the weight in the dense state_dict; of a group that of `Layer.group`.
        shape: Of the weight, or (entries,) of a group's joined weights.
        original: Entries of the dense weight.
        parameters: Numbers stored instead.
        relative_error: ||W - T|| / ||W|| after the fit.
        structure: Of the ADTN.
    """

    key: str
    shape: tuple[int, ...]
    original: int
    parameters: int
    relative_error: float
    structure: AnyStructure


def compress(
    model: nn.Module,
    plan: Plan | Mapping[str | tuple[str, ...], AnyStructure],
    options: FitOptions | None = None,
    on_step: Callable[[str, int, int, float], None] | None = None,
    inputs: Tensor | None = None,
) -> tuple[EncodedLayer, ...]:
    """Fit and encode every layer of a plan, in place.

    Args:
        model: Changed in place, after all layers have been fitted: if one cannot be, the model stays as it is.
        plan: A plan, or structures by the weight's key; by several keys for weights that one ADTN is to hold.
        options: Of the fits; layer i uses seed + i, so that equal layers start differently.
        on_step: Called after each step of a fit with the layer's key, the step, the number of steps and the squared
            relative error; it may raise to stop.
        inputs: Samples (N, ...) that the model takes, unsorted; not changed. With them biases are shifted so that mean
            outputs stay (those that are no other layer's and not encoded themselves), and the error of each layer's
            outputs is minimised, not that of its weight: the better start for fine-tuning. A weight that several layers
            share is fitted for the outputs of the one that is named. Weights that share an ADTN are fitted as they are.

    Returns:
        One item a layer, in the plan's order.

    Raises:
        ShapeError: A layer is not in the model, or its weight does not fit its structure.
        TrainingDiverged: The error of a fit is no longer finite.
    """
    options = options or FitOptions()
    structures = _structures(plan)
    weights = _weights(model, structures)
    moments = {} if inputs is None else input_moments(model, inputs, {key for keys in structures for key in keys})
    means = {key: found.mean for key, found in moments.items() if found.mean is not None}
    tasks = []
    for i, (keys, structure) in enumerate(structures.items()):
        moment = moments.get(keys[0]) if len(keys) == 1 else None
        own = replace(options, seed=options.seed + i)
        tasks.append(FitTask(weights[i], structure, own, moment.second if moment else None, " + ".join(keys)))
    fitted = dict(fit_each(tasks, on_step and (lambda i, *told: on_step(tasks[i].name, *told))))
    for i, keys in enumerate(structures):
        encode_layer(model, keys, fitted[i], means)
    return tuple(_encoded(task, fitted[i]) for i, task in enumerate(tasks))


def _encoded(task: FitTask, adtn: ADTN) -> EncodedLayer:
    """What became of a layer."""
    assert adtn.relative_error is not None
    entries, parameters = task.weight.numel(), task.structure.parameters
    return EncodedLayer(task.name, tuple(task.weight.shape), entries, parameters, adtn.relative_error, task.structure)


def _structures(plan: Plan | Mapping[str | tuple[str, ...], AnyStructure]) -> dict[tuple[str, ...], AnyStructure]:
    """Structures by the keys of what each is to hold."""
    if isinstance(plan, Plan):
        return {tuple(weight.key for weight in entry.layer.weights): entry.structure for entry in plan.entries}
    return {(keys,) if isinstance(keys, str) else keys: structure for keys, structure in plan.items()}


def _weights(model: nn.Module, layers: Iterable[tuple[str, ...]]) -> list[Tensor]:
    """What the ADTN of each layer is fitted to, after all keys have been found to fit together.

    Raises:
        ShapeError: A key is that of no parameter, or of one that was named before; or dtypes differ within a group.
    """
    found: list[Tensor] = []
    named: dict[int, str] = {}
    for keys in layers:
        weights = [parameter_of(model, key) for key in keys]
        for key, weight in zip(keys, weights, strict=True):
            if id(weight) in named:
                raise ShapeError(f"{key}: expected each parameter once, got it as {named[id(weight)]} too")
            named[id(weight)] = key
        try:
            found.append(joined(weights))
        except ShapeError as error:
            raise ShapeError(f"{' + '.join(keys)}: {error}") from None
    return found

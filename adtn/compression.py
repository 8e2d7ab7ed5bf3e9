"""Compress a model: fit an ADTN to the weight of every layer of a plan and put it in place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from adtn.encoding import encode_layer
from adtn.errors import ShapeError
from adtn.fitting import FitOptions, fit
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
        model: Changed in place. If a layer cannot be fitted, those before it stay encoded.
        plan: A plan, or structures by the weight's key; by several keys for weights that one ADTN is to hold.
        options: Of the fits; layer i uses seed + i, so that equal layers start differently.
        on_step: Called after each step of a fit with the layer's key, the step, the number of steps and the squared
            relative error; it may raise to stop.
        inputs: Samples (N, ...) that the model takes, unsorted. With them biases are shifted so that mean outputs stay,
            and the error of each layer's outputs is minimised, not that of its weight: the better start for
            fine-tuning. Weights that share an ADTN are fitted as they are.

    Returns:
        One item a layer, in the plan's order.

    Raises:
        ShapeError: A layer is not in the model, or its weight does not fit its structure.
        TrainingDiverged: The error of a fit is no longer finite.
    """
    options = options or FitOptions()
    structures = _structures(plan)
    moments = {} if inputs is None else input_moments(model, inputs, {key for keys in structures for key in keys})
    means = {key: found.mean for key, found in moments.items() if found.mean is not None}
    done: list[EncodedLayer] = []
    for i, (keys, structure) in enumerate(structures.items()):
        name = " + ".join(keys)
        moment = moments.get(keys[0]) if len(keys) == 1 else None
        own = FitOptions(options.steps, options.learning_rate, options.seed + i)
        try:
            weight = joined([_weight(model, key) for key in keys])
            adtn = fit(weight, structure, own, _named(name, on_step), moment.second if moment else None)
        except ShapeError as error:
            raise ShapeError(f"{name}: {error}") from None
        encode_layer(model, keys, adtn, means)
        assert adtn.relative_error is not None
        done.append(
            EncodedLayer(
                name, tuple(weight.shape), weight.numel(), structure.parameters, adtn.relative_error, structure
            )
        )
    return tuple(done)


def _structures(plan: Plan | Mapping[str | tuple[str, ...], AnyStructure]) -> dict[tuple[str, ...], AnyStructure]:
    """Structures by the keys of what each is to hold."""
    if isinstance(plan, Plan):
        return {tuple(weight.key for weight in entry.layer.weights): entry.structure for entry in plan.entries}
    return {(keys,) if isinstance(keys, str) else keys: structure for keys, structure in plan.items()}


def _weight(model: nn.Module, key: str) -> nn.Parameter:
    weight = dict(model.named_parameters(remove_duplicate=False)).get(key)
    if weight is None:
        raise ShapeError("the model has no such parameter, or it is already encoded")
    return weight


def _named(
    key: str, on_step: Callable[[str, int, int, float], None] | None
) -> Callable[[int, int, float], None] | None:
    """The step callback of one layer."""
    if on_step is None:
        return None
    return lambda step, steps, error: on_step(key, step, steps, error)

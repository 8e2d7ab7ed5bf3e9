"""Put ADTNs in the place of a model's parameters, through torch.nn.utils.parametrize."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from adtn.errors import ShapeError
from adtn.module import ADTN
from adtn.sharing import Share, shares


def encode(model: nn.Module, key: str, adtn: ADTN, input_mean: Tensor | None = None) -> None:
    """Put the ADTN in the place of a parameter, wherever the model uses that parameter.

    The module and its forward stay as they are; reading the attribute decodes. In the state_dict the weight's entry is
    replaced by `....parametrizations.weight.0.gates`. A tied parameter is replaced in every place by this one ADTN, so
    it has one set of gates. Afterwards, assigning to the attribute raises ShapeError.

    Args:
        model: Changed in place.
        key: The parameter's key in the state_dict: "fc1.weight", or "tokens" for a bare one.
        adtn: Of the parameter's shape and dtype.
        input_mean: E[x] of the layer's inputs, (row,): see `input_moments`. The layer's bias is then changed by
            (W - T) E[x], so that its mean outputs stay as they are. Those of other layers with this weight do not.

    Raises:
        ShapeError: There is no such parameter, or it has another shape or dtype; or the mean has another shape, or
            there is no bias to take it up.
    """
    _put(model, {key: adtn}, adtn, {} if input_mean is None else {key: input_mean})


def encode_together(
    model: nn.Module, keys: Sequence[str], adtn: ADTN, input_means: Mapping[str, Tensor] | None = None
) -> None:
    """Put one ADTN in the place of several parameters: it holds them flattened and joined in the order of the keys.

    As `encode`, but that the entries of the state_dict are `....parametrizations.weight.0.adtn.gates`, the same tensor
    under each key.

    Args:
        model: Changed in place.
        keys: Of the parameters, at least one.
        adtn: Of shape (entries,), as many as the parameters have together, and of their dtype.
        input_means: E[x] by key, for any of the layers: see `encode_layer`.

    Raises:
        ShapeError: There is no such parameter, one is named twice or has another dtype, or the ADTN has another shape;
            or a mean has another shape, or there is no bias to take it up.
    """
    parameters = [parameter_of(model, key) for key in keys]
    entries = sum(parameter.numel() for parameter in parameters)
    if tuple(adtn.shape) != (entries,):
        raise ShapeError(f"{', '.join(keys)}: expected an ADTN of shape {(entries,)}, got {tuple(adtn.shape)}")
    if len({id(parameter) for parameter in parameters}) < len(parameters):
        raise ShapeError(f"{', '.join(keys)}: expected each parameter once")
    placed = shares(adtn, [parameter.shape for parameter in parameters])
    _put(model, dict(zip(keys, placed, strict=True)), adtn, input_means or {})


def encode_layer(
    model: nn.Module, keys: Sequence[str], adtn: ADTN, input_means: Mapping[str, Tensor] | None = None
) -> None:
    """Put an ADTN in the place of a layer's weight (`encode`), or of the weights of a group (`encode_together`).

    Args:
        model: Changed in place.
        keys: Of the parameters: one, or those of the group in order.
        adtn: Fitted to what `adtn.sharing.joined` makes of them.
        input_means: E[x] by key, for any of the layers; of a tied weight, by each of its keys. The biases of layers
            that have none of these weights stay as they are.

    Raises:
        ShapeError: See there.
    """
    if len(keys) > 1:
        encode_together(model, keys, adtn, input_means)
    else:
        _put(model, {keys[0]: adtn}, adtn, input_means or {})


def encode_again(model: nn.Module, alias: str, key: str) -> None:
    """Let a parameter share what stands in the place of another one, already encoded.

    Args:
        model: Changed in place.
        alias: Key of the parameter.
        key: Of the encoded weight.

    Raises:
        ShapeError: There is no such parameter, or it has another shape or dtype.
    """
    (place,) = (place for place in encoded_places(model) if place.key == key)
    _put(model, {alias: place.module}, place.adtn, {})


class Place(NamedTuple):
    """Where a model has an encoded weight.

    Args:
        key: Of the weight in the dense state_dict.
        module: What decodes to it: an ADTN, or its share of one.
    """

    key: str
    module: ADTN | Share

    @property
    def adtn(self) -> ADTN:
        """The ADTN that holds the weight, alone or with others."""
        return self.module.adtn if isinstance(self.module, Share) else self.module

    @property
    def gates_key(self) -> str:
        """The state_dict key of the gates."""
        prefix, _, name = self.key.rpartition(".")
        inner = "adtn.gates" if isinstance(self.module, Share) else "gates"
        return f"{prefix}.parametrizations.{name}.0.{inner}".removeprefix(".")

    @property
    def scales_key(self) -> str:
        """The state_dict key of the scales, which are there if the gates are quantised."""
        return self.gates_key.removesuffix("gates") + "scales"


def encoded(model: nn.Module) -> dict[str, ADTN]:
    """The ADTNs of a model, each once, by the first key of a weight that it holds.

    Args:
        model: Any module.
    """
    found: dict[str, ADTN] = {}
    for place in encoded_places(model):
        if all(place.adtn is not other for other in found.values()):
            found[place.key] = place.adtn
    return found


def encoded_places(model: nn.Module) -> Iterator[Place]:
    """Every key under which the model has an encoded weight, ties and shared modules included."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        if not parametrize.is_parametrized(module):
            continue
        for name, chain in module.parametrizations.items():
            if isinstance(chain[0], (ADTN, Share)):
                yield Place(f"{prefix}.{name}" if prefix else name, chain[0])


def decoded(model: nn.Module) -> dict[str, Tensor]:
    """Every encoded weight of a model, decoded now, by each of its keys; tied ones are the same tensor.

    Args:
        model: Any module.
    """
    held: dict[ADTN, Tensor] = {}
    weights: dict[ADTN | Share, Tensor] = {}
    found = {}
    for place in encoded_places(model):
        if place.adtn not in held:
            held[place.adtn] = place.adtn.decode()
        if place.module not in weights:
            whole = held[place.adtn]
            weights[place.module] = place.module.of(whole) if isinstance(place.module, Share) else whole
        found[place.key] = weights[place.module]
    return found


def _put(model: nn.Module, modules: Mapping[str, ADTN | Share], adtn: ADTN, input_means: Mapping[str, Tensor]) -> None:
    """Put what decodes to them in the place of parameters, after all of them have been checked."""
    parameters = {key: parameter_of(model, key) for key in modules}
    for key, module in modules.items():
        parameter = parameters[key]
        if parameter.shape != module.shape or parameter.dtype != module.dtype:
            raise ShapeError(
                f"{key}: expected an ADTN of shape {tuple(parameter.shape)} and {parameter.dtype}, "
                f"got {tuple(module.shape)} and {module.dtype}"
            )
    shifts = {key: _shifts(model, parameters[key], input_means) for key in modules}
    adtn.in_place = False
    adtn.to(next(iter(parameters.values())).device)
    for key, module in modules.items():
        for bias, mean in shifts[key]:
            _shift_bias(bias, parameters[key], module, mean)
        for place, name in list(_places(model, parameters[key])):
            # unsafe=True only skips checks that would decode the weight once more; they are made above.
            parametrize.register_parametrization(place, name, module, unsafe=True)
            if isinstance(place, nn.RNNBase):
                _release_flat_weights(place, None, None)
                place.register_forward_hook(_release_flat_weights)
    adtn.kept.clear()  # what the biases were shifted by
    adtn.gates.requires_grad_(any(parameter.requires_grad for parameter in parameters.values()))
    adtn.in_place = True


def parameter_of(model: nn.Module, key: str) -> nn.Parameter:
    """The parameter that is to be encoded.

    Raises:
        ShapeError: There is none.
    """
    module, name = owner_of(model, key)
    parameter = module._parameters.get(name)
    if parameter is None:
        encoded_before = parametrize.is_parametrized(module, name)
        raise ShapeError(f"{key}: {'is already parametrized' if encoded_before else 'the model has no such parameter'}")
    return parameter


def owner_of(model: nn.Module, key: str) -> tuple[nn.Module, str]:
    """The module that holds the parameter `key`, and the parameter's name in it.

    Raises:
        ShapeError: There is no such module.
    """
    prefix, _, name = key.rpartition(".")
    try:
        return model.get_submodule(prefix), name
    except AttributeError:
        raise ShapeError(f"{key}: the model has no module {prefix!r}") from None


def _places(model: nn.Module, parameter: nn.Parameter) -> Iterator[tuple[nn.Module, str]]:
    """Every module and name that holds this very parameter."""
    for module in model.modules():
        for name, other in module._parameters.items():
            if other is parameter:
                yield module, name


def _shifts(
    model: nn.Module, weight: nn.Parameter, input_means: Mapping[str, Tensor]
) -> list[tuple[nn.Parameter, Tensor]]:
    """The biases that are to take up a weight's error, each once, with the mean inputs of their layers."""
    found: dict[int, tuple[nn.Parameter, Tensor]] = {}
    for key, mean in input_means.items():
        owner, name = owner_of(model, key)
        if owner._parameters.get(name) is not weight:
            continue
        bias, rows, row = owner._parameters.get("bias"), weight.shape[:1], weight.shape[1:].numel()
        if bias is None or bias.shape != rows:
            got = "none" if bias is None else tuple(bias.shape)
            raise ShapeError(f"{key}: expected a bias of shape {tuple(rows)} to take up the input mean, got {got}")
        if mean.shape != (row,):
            raise ShapeError(f"{key}: expected an input mean of shape {(row,)}, got {tuple(mean.shape)}")
        found[id(bias)] = bias, mean
    return list(found.values())


@torch.no_grad()
def _shift_bias(bias: nn.Parameter, weight: nn.Parameter, module: ADTN | Share, input_mean: Tensor) -> None:
    """Let a bias take up what the weight's error does to the mean outputs."""
    error = (weight - module()).flatten(1)  # (out, row)
    bias.add_((error.float() @ input_mean).to(bias.dtype))


def _release_flat_weights(module: nn.RNNBase, _inputs: object, _output: object) -> None:
    """Make a recurrent layer gather its weights anew in its next forward.

    It keeps a list of its weights beside the attributes, and gathers them again only if an attribute is another object
    than last time. Within `decoded_once` and in evaluation it is not, and a list that holds decoded weights keeps their
    autograd graph alive and cannot be deep-copied. So it is left with detached weights and references that never match.
    """
    module._flat_weights = [weight if weight is None else weight.detach() for weight in module._flat_weights]
    module._flat_weight_refs = [weakref.ref(nn.Parameter())] * len(module._flat_weights)

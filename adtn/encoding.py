"""Put ADTNs in the place of a model's parameters, through torch.nn.utils.parametrize."""

import weakref
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from adtn.errors import ShapeError
from adtn.module import ADTN


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
            (W - T) E[x], so that its mean outputs stay as they are.

    Raises:
        ShapeError: There is no such parameter, or it has another shape or dtype.
    """
    module, name = _owner(model, key)
    parameter = module._parameters.get(name)
    if parameter is None:
        encoded_before = parametrize.is_parametrized(module, name)
        raise ShapeError(f"{key}: {'is already parametrized' if encoded_before else 'the model has no such parameter'}")
    if parameter.shape != adtn.shape or parameter.dtype != adtn.dtype:
        raise ShapeError(
            f"{key}: expected an ADTN of shape {tuple(parameter.shape)} and {parameter.dtype}, "
            f"got {tuple(adtn.shape)} and {adtn.dtype}"
        )
    adtn.in_place = False
    adtn.to(parameter.device)
    if input_mean is not None:
        _shift_bias(module, parameter, adtn, input_mean)
    for place, place_name in list(_places(model, parameter)):
        # unsafe=True only skips checks that would decode the weight once more; they are made above.
        parametrize.register_parametrization(place, place_name, adtn, unsafe=True)
        if isinstance(place, nn.RNNBase):
            _release_flat_weights(place, None, None)
            place.register_forward_hook(_release_flat_weights)
    adtn.gates.requires_grad_(parameter.requires_grad)
    adtn.in_place = True


def encoded(model: nn.Module) -> dict[str, ADTN]:
    """The encoded weights of a model: key of the weight to its ADTN, each once, under its first key.

    Args:
        model: Any module.
    """
    found: dict[str, ADTN] = {}
    for key, adtn in encoded_places(model):
        if all(adtn is not other for other in found.values()):
            found[key] = adtn
    return found


def encoded_places(model: nn.Module) -> Iterator[tuple[str, ADTN]]:
    """Every key under which the model has an encoded weight, ties and shared modules included."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        if not parametrize.is_parametrized(module):
            continue
        for name, chain in module.parametrizations.items():
            if isinstance(chain[0], ADTN):
                yield (f"{prefix}.{name}" if prefix else name), chain[0]


def gates_key(key: str) -> str:
    """The state_dict key of the gates of the encoded weight `key`."""
    prefix, _, name = key.rpartition(".")
    return f"{prefix}.parametrizations.{name}.0.gates" if prefix else f"parametrizations.{name}.0.gates"


def scales_key(key: str) -> str:
    """The state_dict key of the scales of the encoded weight `key`, which is there if its gates are quantised."""
    return gates_key(key).removesuffix("gates") + "scales"


def _owner(model: nn.Module, key: str) -> tuple[nn.Module, str]:
    """The module that holds the parameter `key`, and the parameter's name in it."""
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


@torch.no_grad()
def _shift_bias(module: nn.Module, weight: nn.Parameter, adtn: ADTN, input_mean: Tensor) -> None:
    """Let the bias take up what the weight's error does to the mean outputs."""
    bias = module._parameters["bias"]
    assert bias is not None
    error = (weight - adtn.decode()).flatten(1)  # (out, row)
    bias.add_((error.float() @ input_mean).to(bias.dtype))


def _release_flat_weights(module: nn.RNNBase, _inputs: object, _output: object) -> None:
    """Make a recurrent layer gather its weights anew in its next forward.

    It keeps a list of its weights beside the attributes, and gathers them again only if an attribute is another object
    than last time. Within `decoded_once` and in evaluation it is not, and a list that holds decoded weights keeps their
    autograd graph alive and cannot be deep-copied. So it is left with detached weights and references that never match.
    """
    module._flat_weights = [weight if weight is None else weight.detach() for weight in module._flat_weights]
    module._flat_weight_refs = [weakref.ref(nn.Parameter())] * len(module._flat_weights)

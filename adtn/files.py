"""Compressed checkpoints: one safetensors file with gates, what stayed dense, and the plan as one JSON string.

The README of this package specifies the format.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from adtn.contraction import contract
from adtn.encoding import Place, encode, encode_again, encode_together, encoded_places
from adtn.errors import FormatError
from adtn.header import FORMAT_VERSION, METADATA_KEY, Encoded, Header, Part, parse_header
from adtn.module import ADTN
from adtn.sharing import Share
from adtn.start import WEIGHT_DTYPES
from adtn.storing import restored, scales_of, stored
from adtn.ties import gather_ties

__all__ = ["FORMAT_VERSION", "decode", "load", "save"]

_GATES = ".gates"

Decode = Literal["once", "each_step"]
"""When the weights of a loaded model are decoded."""


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model, encoded weights as their gates, to one safetensors file.

    The file appears whole or not at all: it is written beside `path` and then renamed.

    Args:
        model: Compressed or not; only its state_dict is stored.
        path: Of the file.

    Raises:
        FormatError: An entry of the state_dict is not a tensor, or its key is that of an encoded weight's gates; gates
            that are to be integers are not finite; or the format cannot say what the model holds, such as a weight
            without the others that its gates hold.
    """
    tensors, header = _contents(model)
    metadata = {METADATA_KEY: header.to_text()}
    parse_header(metadata, f"{path} could not be read again")
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{uuid4().hex}.tmp")
    try:
        save_file(tensors, temporary, metadata=metadata)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str], model: nn.Module, decode: Decode = "each_step") -> nn.Module:
    """Load a compressed checkpoint into a model of the same architecture that is not compressed yet.

    Args:
        path: Of the file.
        model: Changed in place. Not touched if anything is wrong.
        decode: "each_step": encoded weights become ADTNs, whose gates can be trained further; the model is saved as it
            was. "once": they become the weights that they stand for, and the model is as it was before it was
            compressed: for inference.

    Returns:
        The model.

    Raises:
        FormatError: The file is not a compressed checkpoint, or does not fit the model.
        FileNotFoundError: There is no such file.
        ValueError: `decode` is neither of the two.
    """
    if decode not in get_args(Decode):
        raise ValueError(f"decode: expected one of {', '.join(get_args(Decode))}, got {decode!r}")
    header, tensors = _read(path)
    dense, weights = _without_gates(header, tensors), header.weights()
    _check_fit(model, header, dense, str(path))
    if decode == "once":
        model.load_state_dict(_decoded(header, tensors))
        return model
    parameters = dict(model.named_parameters(remove_duplicate=False))
    _check_dtypes(parameters, header, str(path))
    for key, item in header.encoded.items():
        adtn = ADTN(item.shape, item.structure, parameters[key].dtype, gates=tensors[key + _GATES])
        if item.bits is not None:
            adtn.quantise(item.bits, scales_of(item))
        if item.parts:
            encode_together(model, [part.key for part in item.parts], adtn)
        else:
            encode(model, key, adtn)
    for alias, key in header.aliases.items():
        if key in weights and not _is_encoded(model, alias):
            encode_again(model, alias, key)
    # All keys have been compared; what is missing here are gates and scales, which are in place.
    model.load_state_dict(dense, strict=False)
    return model


def decode(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Decode a compressed checkpoint into a dense state_dict, with the keys, shapes and dtypes of the original model.

    Decoding takes the memory of the original weights, however small the file; and meanwhile, for one ADTN at a time,
    that of up to four tensors of `structure.size` entries in the dtype of its gates.

    Args:
        path: Of the file.

    Returns:
        Tensors by key, on the CPU; tied entries are the same tensor.

    Raises:
        FormatError: The file is not a compressed checkpoint.
        FileNotFoundError: There is no such file.
    """
    return _decoded(*_read(path))


def _decoded(header: Header, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The dense state_dict of a file's contents, which it takes over."""
    for key, item in header.encoded.items():
        flat = contract(tensors.pop(key + _GATES), item.structure, entries=math.prod(item.shape))
        parts = item.weights(key)
        for part, weight in zip(parts, torch.split(flat, [math.prod(part.shape) for part in parts]), strict=True):
            # The copy lets go of the padding, which would otherwise live as long as the weight.
            tensors[part.key] = weight.view(part.shape).to(item.dtype, copy=True)
    tensors.update({alias: tensors[key] for alias, key in header.aliases.items()})
    return tensors


def _contents(model: nn.Module) -> tuple[dict[str, Tensor], Header]:
    """The tensors to write, contiguous and on the CPU, and the header."""
    state = model.state_dict()
    encoded: dict[str, Encoded] = {}
    tensors: dict[str, Tensor] = {}
    weights, aliases = _weights(model)
    for place in encoded_places(model):
        state.pop(place.gates_key)
        state.pop(place.scales_key, None)
    for adtn, places in weights.items():
        key = places[0].key
        try:
            item, tensors[key + _GATES] = stored(adtn)
        except FormatError as error:
            raise FormatError(f"{key}: {error}") from None
        parts = [Part(place.key, tuple(place.module.shape)) for place in places if isinstance(place.module, Share)]
        encoded[key] = replace(item, parts=tuple(parts))
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise FormatError(f"{key}: expected a tensor in the state_dict, got {type(value).__name__}")
        if key in tensors:
            raise FormatError(f"{key}: the state_dict has an entry with the name of an encoded weight's gates")
    dense, dense_aliases = gather_ties(state)
    # Copied, because safetensors refuses tensors that share memory in other ways than as a whole.
    tensors.update({key: tensor.detach().cpu().clone().contiguous() for key, tensor in dense.items()})
    return tensors, Header(encoded, aliases | dense_aliases)


def _weights(model: nn.Module) -> tuple[dict[ADTN, list[Place]], dict[str, str]]:
    """The weights that each ADTN holds, in the order in which it does; and the further keys of tied ones."""
    first: dict[nn.Module, Place] = {}
    aliases: dict[str, str] = {}
    held: dict[ADTN, list[Place]] = {}
    for place in encoded_places(model):
        if place.module in first:
            aliases[place.key] = first[place.module].key
            continue
        first[place.module] = place
        held.setdefault(place.adtn, []).append(place)
    for places in held.values():
        places.sort(key=lambda place: place.module.start if isinstance(place.module, Share) else 0)
    return held, aliases


def _read(path: str | os.PathLike[str]) -> tuple[Header, dict[str, Tensor]]:
    """The header and all tensors of a file, checked against each other."""
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_header(file.metadata(), str(path))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise FormatError(f"{path}: expected a safetensors file, got: {error}") from None
    for key, item in header.encoded.items():
        if key + _GATES not in tensors:
            raise FormatError(f"{path}: {key}: expected the tensor {key + _GATES!r}, which is missing")
        try:
            tensors[key + _GATES] = restored(tensors[key + _GATES], item)
        except FormatError as error:
            raise FormatError(f"{path}: {key + _GATES}: {error}") from None
    weights = header.weights()
    for key in weights:
        if key in tensors:
            raise FormatError(f"{path}: {key}: expected gates only, got the dense tensor too")
    stored = weights.keys() | tensors.keys() - _gates_keys(header)
    for alias, key in header.aliases.items():
        if key not in stored:
            raise FormatError(f"{path}: alias {alias!r}: expected a weight or dense tensor, got the name {key!r}")
        if alias in tensors or alias in weights:
            raise FormatError(f"{path}: alias {alias!r}: expected no tensor of that name, got one")
    return header, tensors


def _gates_keys(header: Header) -> set[str]:
    """The names of the tensors of gates."""
    return {key + _GATES for key in header.encoded}


def _without_gates(header: Header, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that are stored dense, aliases included."""
    gates = _gates_keys(header)
    dense = {key: tensor for key, tensor in tensors.items() if key not in gates}
    return dense | {alias: dense[key] for alias, key in header.aliases.items() if key in dense}


def _check_fit(model: nn.Module, header: Header, dense: dict[str, Tensor], where: str) -> None:
    """Compare every key, shape and tie of a file with the model, before anything is changed."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    encoded = header.weights()
    encoded.update({alias: encoded[key] for alias, key in header.aliases.items() if key in encoded})
    given = dict(encoded)
    given.update({key: tuple(tensor.shape) for key, tensor in dense.items()})
    state = model.state_dict()
    missing, unexpected = sorted(state.keys() - given.keys()), sorted(given.keys() - state.keys())
    if missing or unexpected:
        raise FormatError(
            f"{where} does not fit the model: missing {missing or 'none'}, unexpected {unexpected or 'none'}"
        )
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise FormatError(
                f"{where}: {key}: expected a tensor in the model's state_dict, got {type(value).__name__}"
            )
        if given[key] != tuple(value.shape):
            raise FormatError(f"{where}: {key}: expected shape {tuple(value.shape)}, got {given[key]}")
    for key in encoded:
        if key not in parameters:
            raise FormatError(f"{where}: {key}: expected a parameter of the model, got a buffer")
    _check_ties(parameters, header, where)


def _check_ties(parameters: Mapping[str, nn.Parameter], header: Header, where: str) -> None:
    """Refuse two weights, of which one is encoded, for a parameter that the model has in two places."""
    weights = header.weights()
    first: dict[int, str] = {}
    for key, parameter in parameters.items():
        stored = header.aliases.get(key, key)
        other = first.setdefault(id(parameter), stored)
        if stored != other and (stored in weights or other in weights):
            raise FormatError(
                f"{where}: {key}: expected an alias of {other!r}, with which the model ties it, got {stored!r}"
            )


def _check_dtypes(parameters: Mapping[str, nn.Parameter], header: Header, where: str) -> None:
    """Refuse parameters that no gates decode to, and several of different dtypes in the place of one ADTN."""
    holders = {part.key: key for key, item in header.encoded.items() for part in item.weights(key)}
    for name, parameter in parameters.items():
        key = holders.get(header.aliases.get(name, name))
        if key is None:
            continue
        if parameter.dtype not in WEIGHT_DTYPES:
            dtypes = ", ".join(map(str, WEIGHT_DTYPES))
            raise FormatError(f"{where}: {name}: expected a parameter of {dtypes}, got {parameter.dtype}")
        if parameter.dtype != parameters[key].dtype:
            raise FormatError(
                f"{where}: {name}: expected {parameters[key].dtype}, as {key!r}, with which it shares gates, "
                f"got {parameter.dtype}"
            )


def _is_encoded(model: nn.Module, key: str) -> bool:
    prefix, _, name = key.rpartition(".")
    return parametrize.is_parametrized(model.get_submodule(prefix), name)

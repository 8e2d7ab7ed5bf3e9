"""Compressed checkpoints: one safetensors file with gates, what stayed dense, and the plan as one JSON string.

The README of this package specifies the format.
"""

import math
import os
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
        FormatError: An entry of the state_dict is not a tensor, or its key is that of an encoded weight's gates; or
            gates that are to be integers are not finite.
    """
    tensors, header = _contents(model)
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{uuid4().hex}.tmp")
    try:
        save_file(tensors, temporary, metadata={METADATA_KEY: header.to_text()})
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
    for key, item in header.encoded.items():
        adtn = ADTN(item.shape, item.structure, parameters[key].dtype)
        with torch.no_grad():
            adtn.gates.copy_(tensors[key + _GATES])
        if item.bits is not None:
            adtn.quantise(item.bits, scales_of(item))
        if item.parts:
            encode_together(model, [part.key for part in item.parts], adtn)
        else:
            encode(model, key, adtn)
    for alias, key in header.aliases.items():
        if key in weights and not _is_encoded(model, alias):
            encode_again(model, alias, key)
    for place in encoded_places(model):
        dense[place.gates_key] = place.adtn.gates.detach()
        if place.adtn.scales is not None:
            dense[place.scales_key] = place.adtn.scales
    model.load_state_dict(dense)
    return model


def decode(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Decode a compressed checkpoint into a dense state_dict, with the keys, shapes and dtypes of the original model.

    Decoding takes as much memory as the original weights, however small the file.

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
        flat = contract(tensors.pop(key + _GATES), item.structure)
        parts = item.weights(key)
        entries = [math.prod(part.shape) for part in parts]
        for part, weight in zip(parts, torch.split(flat[: sum(entries)], entries), strict=True):
            # The copy lets go of the padding, which would otherwise live as long as the weight.
            tensors[part.key] = weight.clone().view(part.shape).to(item.dtype)
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
        gates = tensors.get(key + _GATES)
        if gates is None:
            raise FormatError(f"{path}: {key}: expected the tensor {key + _GATES!r}, which is missing")
        try:
            tensors[key + _GATES] = restored(gates, item)
        except FormatError as error:
            raise FormatError(f"{path}: {key + _GATES}: {error}") from None
    weights = header.weights()
    for key in weights:
        if key in tensors:
            raise FormatError(f"{path}: {key}: expected gates only, got the dense tensor too")
    for alias, key in header.aliases.items():
        if key not in tensors and key not in weights:
            raise FormatError(f"{path}: alias {alias!r}: expected the tensor {key!r}, which is missing")
        if alias in tensors or alias in weights:
            raise FormatError(f"{path}: alias {alias!r}: expected no tensor of that name, got one")
    return header, tensors


def _without_gates(header: Header, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that are stored dense, aliases included."""
    gates = {key + _GATES for key in header.encoded}
    dense = {key: tensor for key, tensor in tensors.items() if key not in gates}
    return dense | {alias: dense[key] for alias, key in header.aliases.items() if key in dense}


def _check_fit(model: nn.Module, header: Header, dense: dict[str, Tensor], where: str) -> None:
    """Compare every key and shape of a file with the model, before anything is changed."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    encoded = header.weights()
    encoded.update({alias: encoded[key] for alias, key in header.aliases.items() if key in encoded})
    given = dict(encoded)
    given.update({key: tuple(tensor.shape) for key, tensor in dense.items()})
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    missing, unexpected = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing or unexpected:
        raise FormatError(
            f"{where} does not fit the model: missing {missing or 'none'}, unexpected {unexpected or 'none'}"
        )
    for key, shape in expected.items():
        if given[key] != shape:
            raise FormatError(f"{where}: {key}: expected shape {shape}, got {given[key]}")
    for key in encoded:
        if key not in parameters:
            raise FormatError(f"{where}: {key}: expected a parameter of the model, got a buffer")


def _is_encoded(model: nn.Module, key: str) -> bool:
    prefix, _, name = key.rpartition(".")
    return parametrize.is_parametrized(model.get_submodule(prefix), name)

"""Compressed checkpoints: one safetensors file with gates, what stayed dense, and the plan as one JSON string.

The README of this package specifies the format.
"""

import os
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from adtn.contraction import contract
from adtn.encoding import encode, encoded_places, gates_key, scales_key
from adtn.errors import FormatError
from adtn.header import FORMAT_VERSION, METADATA_KEY, Encoded, Header, parse_header
from adtn.module import ADTN
from adtn.storing import restored, scales_of, stored
from adtn.ties import gather_ties

__all__ = ["FORMAT_VERSION", "decode", "load", "save"]

_GATES = ".gates"


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


def load(path: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """Load a compressed checkpoint into a model of the same architecture that is not compressed yet.

    Args:
        path: Of the file.
        model: Changed in place: encoded weights become ADTNs, the rest is copied. Not touched if anything is wrong.

    Returns:
        The model.

    Raises:
        FormatError: The file is not a compressed checkpoint, or does not fit the model.
        FileNotFoundError: There is no such file.
    """
    header, tensors = _read(path)
    gates = {key: tensors.pop(key + _GATES) for key in header.encoded}
    for alias, key in header.aliases.items():
        if key not in header.encoded:
            tensors[alias] = tensors[key]
    _check_fit(model, header, tensors, str(path))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for key, item in header.encoded.items():
        adtn = ADTN(item.shape, item.structure, parameters[key].dtype)
        with torch.no_grad():
            adtn.gates.copy_(gates[key])
        if item.bits is not None:
            adtn.quantise(item.bits, scales_of(item))
        for place in (key, *(alias for alias, named in header.aliases.items() if named == key)):
            if not _is_encoded(model, place):
                encode(model, place, adtn)
    for key, adtn in encoded_places(model):
        tensors[gates_key(key)] = adtn.gates.detach()
        if adtn.scales is not None:
            tensors[scales_key(key)] = adtn.scales
    model.load_state_dict(tensors)
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
    header, tensors = _read(path)
    for key, item in header.encoded.items():
        flat = contract(tensors.pop(key + _GATES), item.structure)
        entries = torch.Size(item.shape).numel()
        # The copy lets go of the padding, which would otherwise live as long as the weight.
        tensors[key] = flat[:entries].clone().view(item.shape).to(item.dtype)
    tensors.update({alias: tensors[key] for alias, key in header.aliases.items()})
    return tensors


def _contents(model: nn.Module) -> tuple[dict[str, Tensor], Header]:
    """The tensors to write, contiguous and on the CPU, and the header."""
    state = model.state_dict()
    first: dict[ADTN, str] = {}
    encoded: dict[str, Encoded] = {}
    aliases: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for key, adtn in encoded_places(model):
        state.pop(gates_key(key))
        state.pop(scales_key(key), None)
        if adtn in first:
            aliases[key] = first[adtn]
            continue
        first[adtn] = key
        try:
            encoded[key], tensors[key + _GATES] = stored(adtn)
        except FormatError as error:
            raise FormatError(f"{key}: {error}") from None
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise FormatError(f"{key}: expected a tensor in the state_dict, got {type(value).__name__}")
        if key in tensors:
            raise FormatError(f"{key}: the state_dict has an entry with the name of an encoded weight's gates")
    dense, dense_aliases = gather_ties(state)
    # Copied, because safetensors refuses tensors that share memory in other ways than as a whole.
    tensors.update({key: tensor.detach().cpu().clone().contiguous() for key, tensor in dense.items()})
    return tensors, Header(encoded, aliases | dense_aliases)


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
        if key in tensors:
            raise FormatError(f"{path}: {key}: expected gates only, got the dense tensor too")
    for alias, key in header.aliases.items():
        if key not in tensors and key not in header.encoded:
            raise FormatError(f"{path}: alias {alias!r}: expected the tensor {key!r}, which is missing")
        if alias in tensors or alias in header.encoded:
            raise FormatError(f"{path}: alias {alias!r}: expected no tensor of that name, got one")
    return header, tensors


def _check_fit(model: nn.Module, header: Header, dense: dict[str, Tensor], where: str) -> None:
    """Compare every key and shape of a file with the model, before anything is changed."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    encoded = {key: header.encoded[key] for key in header.encoded}
    encoded.update({a: encoded[key] for a, key in header.aliases.items() if key in header.encoded})
    given = {key: tuple(item.shape) for key, item in encoded.items()}
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

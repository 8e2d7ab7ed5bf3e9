"""Checked checkpoints as state dicts, a bare module for weights that come without a model, and tensors given back."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from worker.graphs.stored import read_graph


def read_state(path: Path, aliases: Mapping[str, str]) -> dict[str, Tensor]:
    """The state dict of a checked checkpoint, its ties restored.

    Args:
        path: A safetensors file that the sandbox wrote.
        aliases: For each key that shares another key's tensor, that other key.
    """
    constants = _constants_of(path)
    state = {key: tensor for key, tensor in load_file(path).items() if key not in constants}
    return state | {alias: state[key] for alias, key in aliases.items()}


def read_constants(path: Path) -> dict[str, Tensor]:
    """The tensors of a checked checkpoint that belong to the graph it carries, and are in no state dict.

    Args:
        path: A safetensors file that the sandbox wrote.
    """
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in sorted(_constants_of(path))}


def _constants_of(path: Path) -> frozenset[str]:
    graph = read_graph(path)
    return frozenset() if graph is None else graph.keys("constant")


def under_prefix(model: nn.Module, prefix: str) -> nn.Module:
    """The model inside modules that put a prefix before every key of its state dict; itself without a prefix.

    Args:
        model: Not changed; shared with what is returned.
        prefix: Names with a dot behind each, such as "module.".
    """
    for name in reversed(prefix.split(".")[:-1]):
        outer = nn.Module()
        outer.add_module(name, model)
        model = outer
    return model


def bare_module(state: Mapping[str, Tensor]) -> nn.Module:
    """A module without a forward whose state dict is `state`, keys, dtypes and ties included.

    Floating tensors become parameters, so that they can be encoded; the others become buffers.
    """
    root = nn.Module()
    parameters: dict[int, nn.Parameter] = {}
    for key, tensor in state.items():
        *path, name = key.split(".")
        owner = root
        for part in path:
            # Written to the registry itself: a part may be named like a method of Module ("train", "half").
            owner = owner._modules.setdefault(part, nn.Module())  # type: ignore[assignment]
        if tensor.is_floating_point():
            owner._parameters[name] = parameters.setdefault(
                id(tensor), nn.Parameter(tensor.clone(), requires_grad=False)
            )
        else:
            owner._buffers[name] = tensor.clone()
    return root


@torch.no_grad()
def restore(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a model the tensors of its own state dict of before.

    Not by `load_state_dict`, which makes up counters of a batch norm that has none, and then refuses them.
    """
    for key, tensor in model.state_dict().items():
        tensor.copy_(state[key])

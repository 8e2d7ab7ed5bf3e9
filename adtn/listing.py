"""List the weight tensors of a model, or of a state_dict, that might be encoded."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adtn.layer import Layer, ineligible_reason
from adtn.start import WEIGHT_DTYPES
from adtn.ties import gather_ties

_KINDS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Linear, "linear"),
    (nn.Conv1d, "conv1d"),
    (nn.Conv2d, "conv2d"),
    (nn.Conv3d, "conv3d"),
    (nn.ConvTranspose1d, "conv_transpose1d"),
    (nn.ConvTranspose2d, "conv_transpose2d"),
    (nn.ConvTranspose3d, "conv_transpose3d"),
    (nn.Embedding, "embedding"),
    (nn.EmbeddingBag, "embedding"),
)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_KIND_BY_ORDER = {2: "linear", 3: "conv1d", 4: "conv2d", 5: "conv3d"}
_WEIGHT = ".weight"


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    """The tensors of a model with 2 or more dimensions, in the model's order, tied ones once.

    Weights that are already encoded are not listed: they hold no dense tensor.

    Args:
        model: Any module.
    """
    seen: set[int] = set()
    layers: list[Layer] = []
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            key = f"{prefix}.{name}" if prefix else name
            if id(parameter) in seen or is_lazy(parameter) or parameter.dim() < 2:
                continue
            seen.add(id(parameter))
            layers.append(_layer(key, _kind(module, name), parameter))
    return tuple(layers)


def layers_of_state(state: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """The tensors of a state_dict with 2 or more dimensions; the kind is guessed from the number of dimensions.

    Of tensors that are tied (`adtn.ties`) only the first is listed.

    Args:
        state: Tensors by key.
    """
    kept, _ = gather_ties(state)
    return tuple(
        _layer(key, _KIND_BY_ORDER.get(tensor.dim(), "parameter"), tensor)
        for key, tensor in kept.items()
        if tensor.dim() >= 2
    )


def _layer(key: str, kind: str, tensor: Tensor) -> Layer:
    shape = tuple(tensor.shape)
    reason = ineligible_reason(shape, tensor.dtype in WEIGHT_DTYPES)
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Layer(key.removesuffix(_WEIGHT), key, kind, shape, reason is None, reason, dtype=dtype)


def _kind(module: nn.Module, name: str) -> str:
    """The kind of a parameter: by its module where it is that module's weight, else a bare parameter."""
    if isinstance(module, _RECURRENT) and name.startswith("weight_"):
        return "recurrent"
    if name == "weight":
        for cls, kind in _KINDS:
            if isinstance(module, cls):
                return kind
    return "parameter"

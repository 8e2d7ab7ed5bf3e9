"""An ADTN as a file holds it: what the header says of it, and the tensor of its gates."""

import torch
from torch import Tensor

from adtn.coding import pack, unpack
from adtn.errors import FormatError
from adtn.header import Encoded
from adtn.module import ADTN
from adtn.quantising import from_integers, integers
from adtn.start import gate_dtype


def stored(adtn: ADTN) -> tuple[Encoded, Tensor]:
    """What a file holds for an ADTN.

    Returns:
        Its entry in the header; and its gates on the CPU, as floats or, with bits, as the bytes of their code.

    Raises:
        FormatError: Gates that are to be integers are not finite.
    """
    gates = adtn.gates.detach().cpu().contiguous()
    if adtn.bits is None or adtn.scales is None:
        return Encoded(tuple(adtn.shape), adtn.dtype, adtn.structure), gates
    if not torch.isfinite(gates).all():
        raise FormatError("gates: expected finite numbers to store as integers, got NaN or infinite ones")
    scales = adtn.scales.cpu()
    code = pack(integers(gates, scales, adtn.structure, adtn.bits).tolist(), adtn.bits)
    return (
        Encoded(tuple(adtn.shape), adtn.dtype, adtn.structure, adtn.bits, _as_floats(scales)),
        torch.frombuffer(bytearray(code), dtype=torch.uint8),
    )


def restored(tensor: Tensor, item: Encoded) -> Tensor:
    """The gates that a file holds, (structure.parameters,), in the dtype in which they are decoded.

    Args:
        tensor: Of the file.
        item: Its entry in the header.

    Raises:
        FormatError: The tensor is not what the header says.
    """
    count = item.structure.parameters
    if item.bits is None:
        if tuple(tensor.shape) != (count,) or tensor.dtype != gate_dtype(item.dtype):
            raise FormatError(
                f"expected shape {(count,)} and {gate_dtype(item.dtype)}, got {tuple(tensor.shape)} and {tensor.dtype}"
            )
        return tensor
    if tensor.ndim != 1 or tensor.dtype != torch.uint8:
        raise FormatError(f"expected one dimension and torch.uint8, got {tensor.ndim} dimensions and {tensor.dtype}")
    numbers = torch.tensor(unpack(tensor.numpy().tobytes(), count, item.bits), dtype=torch.int8)
    return from_integers(numbers, scales_of(item), item.structure)


def scales_of(item: Encoded) -> Tensor:
    """The scales of an entry of the header, (groups,), in the dtype of the gates."""
    return torch.tensor(item.scales, dtype=gate_dtype(item.dtype))


def stored_bytes(adtn: ADTN) -> int:
    """Bytes of the tensor that a file holds for an ADTN's gates; its entry in the header is not counted.

    With bits, the gates are encoded to find out.

    Args:
        adtn: Any.
    """
    return stored(adtn)[1].nbytes


def _as_floats(scales: Tensor) -> tuple[float, ...]:
    """The scales as numbers with few digits that become the same scales again."""
    digits = 9 if scales.dtype == torch.float32 else 17
    return tuple(float(f"{scale:.{digits}g}") for scale in scales.tolist())

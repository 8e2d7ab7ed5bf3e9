"""What the compiled loops promise beyond their results: threads, processes, memory."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from adtn import native, recycling
from adtn.arrangements import brick_wall
from adtn.contraction import contract

DENSE_MIB = 64

# Prints by how many MiB the peak memory of forward and backward on 24 binary sites exceeds that before, and how many of
# these are the threads' buffers.
PEAK = """
import torch
from adtn import ADTN, Sum, brick_wall, contract, decoded_once, native, staircase
from adtn.structure import Structure

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))

def gates_of(structure):
    return torch.randn(structure.parameters).mul_(0.5).requires_grad_()

small = ADTN((2**12,), brick_wall(12, 2))
with decoded_once(small):  # loads whatever is loaded late
    small().backward(torch.ones(2**12))
wall = brick_wall(24, 5)
turned = Structure(wall.dims, wall.tn_layers[:2], "relu", tuple(reversed(range(24))))
structure, entries = {
    "by autograd": (wall, 2**24),
    "deep": (wall, 2**24),
    "turned and cut": (turned, 2**24 - 5),
    "sum": (Sum((brick_wall(24, 2), brick_wall(24, 1), staircase(24))), 2**24),
}[CASE]
adtn = ADTN((entries,), structure)
before = memory("VmRSS")
if CASE == "by autograd":
    tensor = contract(adtn.gates, structure)
    tensor.backward(torch.ones(entries))
else:
    with decoded_once(adtn):
        adtn().backward(torch.ones(entries))
rows = 8192 * 16 * 4 / 2**20
print(memory("VmHWM") - before, torch.get_num_threads() * 15 * rows)
"""


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def result_and_gradient(sites: int) -> tuple[Tensor, Tensor]:
    structure = brick_wall(sites, 2)
    gates = torch.randn(structure.parameters, generator=torch.Generator().manual_seed(0)).mul_(0.5).requires_grad_()
    result = contract(gates, structure)
    (gradient,) = torch.autograd.grad(result.square().sum(), gates)
    return result.detach(), gradient


@pytest.mark.usefixtures("two_threads")
def test_threads_do_not_change_a_bit_of_the_result_and_only_round_the_gradient() -> None:
    several = result_and_gradient(18)
    again = result_and_gradient(18)
    torch.set_num_threads(1)
    one = result_and_gradient(18)
    assert torch.equal(several[0], again[0])
    assert torch.equal(several[1], again[1])
    assert torch.equal(several[0], one[0])
    torch.testing.assert_close(several[1], one[1], rtol=1e-5, atol=1e-5 * float(one[1].abs().max()))


@pytest.mark.usefixtures("two_threads")
def test_a_forked_process_has_threads_of_its_own() -> None:
    structure = brick_wall(18, 2)
    gates = torch.full((structure.parameters,), 0.25)
    expected = contract(gates, structure).numpy()  # starts this process's threads
    child = os.fork()
    if not child:  # of torch only what starts no thread of torch's own: those do not outlive a fork either
        signal.alarm(30)
        os._exit(0 if (contract(gates, structure).numpy() == expected).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(("case", "tensors"), [("by autograd", 4), ("deep", 4), ("turned and cut", 4), ("sum", 5)])
def test_forward_and_backward_need_four_tensors_at_any_depth_and_five_as_a_sum(case: str, tensors: int) -> None:
    script = f"CASE = {case!r}\n{PEAK}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    peak, buffers = map(float, done.stdout.split())
    assert (tensors - 0.5) * DENSE_MIB < peak < tensors * DENSE_MIB + buffers + 8


def test_wide_gates_do_not_take_a_gradient_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []
    in_threads = native._in_threads

    def counted(*arguments: Any) -> list[Any]:
        results = in_threads(*arguments)
        if len(arguments) == 4:  # of a pass backwards
            pieces.append(len(results))
        return results

    monkeypatch.setattr(native, "_in_threads", counted)
    most = {}
    for width in (2, 8):
        structure = brick_wall(20, 1, width)
        gates = torch.randn(2, structure.parameters, generator=torch.Generator().manual_seed(0)).requires_grad_()
        pieces.clear()
        contract(gates, structure).sum().backward()
        most[width] = max(pieces)
    assert most == {2: native.MOST_PIECES, 8: 2}


def test_memory_of_a_large_tensor_is_used_again_and_a_live_one_left_alone() -> None:
    size = recycling.SMALLEST_BYTES // 4
    first = native.recycled(size, torch.ones(1).numpy().dtype)
    first[:] = 1
    second = native.recycled(size, first.dtype)
    second[:] = 2
    assert (first == 1).all()
    address = first.ctypes.data
    del first
    assert native.recycled(size, second.dtype).ctypes.data == address


def test_no_more_memory_waits_for_its_next_use_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycling, "KEPT_BYTES", 2 * recycling.SMALLEST_BYTES)
    monkeypatch.setattr(recycling, "_free", [])
    arrays = [
        recycling.recycled(recycling.SMALLEST_BYTES, torch.zeros(1, dtype=torch.uint8).numpy().dtype) for _ in range(4)
    ]
    assert recycling._free == []
    arrays.clear()
    assert len(recycling._free) == 2
    recycling.release()
    assert recycling._free == []

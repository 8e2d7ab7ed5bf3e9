"""Which operations a job refuses for the sake of results that are the same in every run."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from worker.device import compute_reproducibly


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    mode, backends = torch.get_deterministic_debug_mode(), (torch.backends.cudnn, torch.backends.cuda.matmul)
    rounded = [backend.allow_tf32 for backend in backends]
    yield
    torch.set_deterministic_debug_mode(mode)
    for backend, allowed in zip(backends, rounded, strict=True):
        backend.allow_tf32 = allowed


def unpooled() -> torch.Tensor:
    """The result of an operation that has no deterministic form, on the CPU either."""
    values, places = nn.functional.max_pool2d(torch.arange(16.0).reshape(1, 1, 4, 4), 2, return_indices=True)
    return nn.functional.max_unpool2d(values, places, 2)


def test_on_the_cpu_an_operation_without_a_deterministic_form_is_refused() -> None:
    compute_reproducibly(torch.device("cpu"))
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        unpooled()


def test_on_an_accelerator_it_warns() -> None:
    compute_reproducibly(torch.device("cuda"))
    with pytest.warns(UserWarning, match="does not have a deterministic implementation"):
        assert unpooled().sum() == 5 + 7 + 13 + 15


def test_on_a_card_float32_is_float32() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    compute_reproducibly(torch.device("cuda"))
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32

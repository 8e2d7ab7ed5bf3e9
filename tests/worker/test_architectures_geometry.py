"""Lengths of feature maps against torch's own layers."""

import pytest
import torch
from torch import nn

from worker.architectures.geometry import Form, Window


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(11, 4, 2), (7, 2, 1), (5, 2, 0), (3, 1, 1), (2, 1, 0)])
def test_a_convolution_makes_maps_as_long_as_torch_does(kernel: int, stride: int, padding: int):
    layer, window = nn.Conv1d(1, 1, kernel, stride, padding), Window(kernel, stride, padding)
    for length in range(1, 40):
        if length + 2 * padding < kernel:
            assert window.out(length) == 0
        else:
            assert window.out(length) == layer(torch.zeros(1, 1, length)).shape[2]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil"),
    [(2, 2, 0, False), (2, 2, 0, True), (3, 2, 0, False), (3, 2, 0, True), (3, 2, 1, False), (3, 2, 1, True)],
)
def test_a_pool_makes_maps_as_long_as_torch_does(kernel: int, stride: int, padding: int, ceil: bool):
    layer, window = nn.MaxPool1d(kernel, stride, padding, ceil_mode=ceil), Window(kernel, stride, padding, ceil)
    for length in range(1, 40):
        try:
            expected = layer(torch.zeros(1, 1, length)).shape[2]
        except RuntimeError:  # torch's word for a map without positions
            expected = 0
        assert window.out(length) == expected


def test_a_map_without_positions_stays_so():
    assert Form((Window(5), Window(3, 1, 2)), (None, None)).map_length(4) == 0


def test_two_forms_that_do_the_same_have_the_same_effect():
    floor = Form((Window(3, 1, 1),), (Window(2, 2),))
    ceil = Form((Window(3, 1, 1),), (Window(2, 2, ceil=True),))
    pooled = Form((Window(3, 1, 1),), (Window(2, 2),), grid=4)
    assert floor.effect(8, 8) == ceil.effect(8, 8) == pooled.effect(8, 8)
    effects = [form.effect(9, 8) for form in (floor, ceil, pooled)]
    assert effects[0] == effects[2] != effects[1]
    assert floor.effect(6, 6) != pooled.effect(6, 6)

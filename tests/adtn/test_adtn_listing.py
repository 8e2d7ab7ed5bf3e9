import torch
from torch import nn

from adtn import ADTN, brick_wall, encode
from adtn.listing import layers_of, layers_of_state


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(16, 8))
        self.scale = nn.Parameter(torch.randn(16))
        self.fc = nn.Linear(8, 8)
        self.tiny = nn.Linear(3, 3)
        self.one = nn.Conv1d(4, 8, 3)
        self.two = nn.Conv2d(4, 8, 3)
        self.three = nn.Conv3d(4, 8, 3)
        self.back = nn.ConvTranspose2d(4, 8, 3)
        self.words = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 20)
        self.head.weight = self.words.weight
        self.rnn = nn.LSTM(8, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.counts = nn.Parameter(torch.zeros(8, 8, dtype=torch.complex64))
        self.lazy = nn.LazyLinear(4)


def test_every_kind_of_layer_is_listed_once_with_its_name_and_key() -> None:
    listed = {layer.key: (layer.name, layer.kind, layer.eligible) for layer in layers_of(Everything())}
    assert listed == {
        "tokens": ("tokens", "parameter", True),
        "fc.weight": ("fc", "linear", True),
        "tiny.weight": ("tiny", "linear", False),
        "one.weight": ("one", "conv1d", True),
        "two.weight": ("two", "conv2d", True),
        "three.weight": ("three", "conv3d", True),
        "back.weight": ("back", "conv_transpose2d", True),
        "words.weight": ("words", "embedding", True),
        "rnn.weight_ih_l0": ("rnn.weight_ih_l0", "recurrent", True),
        "rnn.weight_hh_l0": ("rnn.weight_hh_l0", "recurrent", True),
        "attention.in_proj_weight": ("attention.in_proj_weight", "parameter", True),
        "attention.out_proj.weight": ("attention.out_proj", "linear", True),
        "counts": ("counts", "parameter", False),
    }


def test_an_ineligible_layer_has_a_reason() -> None:
    reasons = {layer.name: layer.reason for layer in layers_of(Everything()) if not layer.eligible}
    assert reasons == {
        "tiny": "it has 9 entries, fewer than 64",
        "counts": "its numbers are not floating-point of 16 to 64 bits",
    }


def test_an_encoded_weight_is_no_longer_listed() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 9))
    encode(model, "0.weight", ADTN((8, 8), brick_wall(6)))
    assert [layer.key for layer in layers_of(model)] == ["1.weight"]


def test_a_state_dict_is_listed_with_kinds_guessed_and_ties_once() -> None:
    shared = torch.randn(20, 8)
    state = {
        "words.weight": shared,
        "head.weight": shared,
        "conv.weight": torch.randn(4, 4, 3, 3),
        "signal.weight": torch.randn(4, 4, 5),
        "volume.weight": torch.randn(2, 2, 3, 3, 3),
        "odd": torch.randn(2, 2, 2, 2, 2, 2),
        "bias": torch.randn(20),
        "empty": torch.empty(0, 4),
        "empty too": torch.empty(0, 4),
        "steps": torch.zeros(8, 8, dtype=torch.int64),
    }
    assert [(layer.name, layer.kind, layer.eligible) for layer in layers_of_state(state)] == [
        ("words", "linear", True),
        ("conv", "conv2d", True),
        ("signal", "conv1d", True),
        ("volume", "conv3d", True),
        ("odd", "parameter", True),
        ("empty", "linear", False),
        ("empty too", "linear", False),
        ("steps", "linear", False),
    ]


def test_a_square_weight_and_its_transpose_are_two_though_they_begin_at_the_same_place() -> None:
    shared = torch.randn(16, 16)
    listed = layers_of_state({"a.weight": shared, "b.weight": shared.t(), "c.weight": shared})
    assert [layer.key for layer in listed] == ["a.weight", "b.weight"]

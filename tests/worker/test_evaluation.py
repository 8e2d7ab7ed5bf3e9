"""What is measured of a compressed model, and how often its weights are decoded for it."""

import io
from typing import Any

import pytest
import torch
from support.contractions import count_contractions
from support.digits import DigitsLeNet, accuracy
from support.exported import seen
from torch import Tensor, nn

import adtn
from worker import datasets
from worker.blueprint import Blueprint
from worker.evaluation import LATENCY_RUNS, right_answers, samples_at_once, top1, top1_of
from worker.graphs.build import build
from worker.pipeline.evaluate import accuracies_of, dense_state
from worker.pipeline.inspect import Inputs
from worker.pipeline.run import latencies

KEYS = ["fc1.weight", "fc2.weight"]


def encoded_lenet() -> DigitsLeNet:
    torch.manual_seed(0)
    model = DigitsLeNet()
    for key in KEYS:
        shape = model.get_parameter(key).shape
        adtn.encode(model, key, adtn.ADTN(shape, adtn.brick_wall(adtn.sites_for(shape), depth=1)))
    return model


def test_accuracy_is_the_dense_models_and_decodes_each_weight_once(monkeypatch: pytest.MonkeyPatch) -> None:
    original, model = DigitsLeNet(), encoded_lenet()
    state = dense_state(model, dict(original.state_dict()))
    original.load_state_dict(state)
    inputs, labels = torch.rand(3000, 1, 8, 8), torch.randint(10, (3000,))
    counts = count_contractions(monkeypatch)
    shares: list[float] = []
    for _ in range(2):
        assert top1(model, inputs, labels, shares.append) == pytest.approx(accuracy(original, inputs, labels))
    assert len(shares) == 6
    assert counts.forward == 2


def test_right_answers_are_those_of_each_sample_in_batches_of_any_size() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1], [0.0, 0.0, 1.0]])
    labels = torch.tensor([0, 1, 1, 2, 2])
    for at_once in (1, 2, 5, 100):
        assert right_answers(nn.Identity(), scores, labels, at_once).tolist() == [True, True, False, False, True]
        assert top1_of(nn.Identity(), scores, labels, at_once) == 3 / 5


def test_outputs_that_are_no_numbers_are_no_answer() -> None:
    nan, inf = float("nan"), float("inf")
    scores = torch.tensor([[nan, nan], [0.1, nan], [nan, 0.2], [-inf, 0.0], [0.0, inf]])
    assert right_answers(nn.Identity(), scores, scores.argmax(dim=1), 2).tolist() == [False, False, False, True, True]


def test_models_are_compared_sample_by_sample() -> None:
    original = torch.tensor([True, True, True, True, False, False, False, True])
    fitted = torch.tensor([True, False, False, False, False, False, False, False])
    compressed = torch.tensor([True, True, False, False, True, False, False, False])
    found = accuracies_of(original, fitted, compressed, torch.tensor([3, 0, 3, 1, 3, 0, 2, 2]))
    assert (found.baseline, found.after_fit, found.final) == (5 / 8, 1 / 8, 3 / 8)
    assert (found.samples, found.change.lost, found.change.won) == (8, 3, 1)
    assert found.commonest == 3 / 8


def test_latency_of_decoding_is_that_of_decoding_all_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    state = DigitsLeNet().state_dict()
    dataset = datasets.load("digits")
    blueprint = Blueprint("lenet5", None)
    model = encoded_lenet()
    architecture = blueprint.build(state, tuple(dataset.train_x.shape[1:]))
    inputs = Inputs(state, model, (), blueprint, architecture, dataset)
    fitted: dict[str, Any] = adtn.encoded(model)
    top1(model, dataset.test_x, dataset.test_y)
    compressed = dense_state(model, state)
    counts = count_contractions(monkeypatch)
    latencies(inputs, compressed, fitted)
    assert counts.forward == len(fitted) * (3 + LATENCY_RUNS)


def test_a_network_is_given_so_many_samples_that_no_result_takes_more_than_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.evaluation.MOST_BYTES", 2**20)
    convolution = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    # Of all results that of the convolution is the largest: 64 channels of floats.
    assert samples_at_once(convolution, torch.zeros(5, 3, 16, 16)) == 2**20 // (64 * 16 * 16 * 4)
    assert samples_at_once(convolution, torch.zeros(1, 3, 1, 1)) == 1024
    assert samples_at_once(convolution, torch.zeros(1, 3, 80, 80)) == 1


def test_a_recurrent_network_is_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm = nn.Embedding(50, 16), nn.LSTM(16, 32, batch_first=True)
            self.head = nn.Linear(32, 5000)  # a weight far larger than a result

        def forward(self, words: Tensor) -> Tensor:
            scores: Tensor = self.head(self.lstm(self.embed(words.long()))[0])
            return scores

    monkeypatch.setattr("worker.evaluation.MOST_BYTES", 2**24)
    assert samples_at_once(Recurrent().eval(), torch.zeros(4, 12)) == 2**24 // (12 * 5000 * 4)


@pytest.mark.filterwarnings("ignore")  # torch's own, while it exports
@pytest.mark.parametrize("least", [2, 8])
def test_an_exported_network_that_takes_no_fewer_samples_is_measured_too(
    monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    file, convolution = io.BytesIO(), nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 64, 10))
    shapes = ({0: torch.export.Dim("batch", min=least)},)
    torch.export.save(torch.export.export(convolution.eval(), (torch.rand(9, 3, 8, 8),), dynamic_shapes=shapes), file)
    program = seen(file.getvalue())
    monkeypatch.setattr("worker.evaluation.MOST_BYTES", 2**16)
    model = build(program.graph, program.state).eval()
    assert samples_at_once(model, torch.zeros(4, 3, 8, 8)) == 2**16 // (8 * 8 * 8 * 4)


def test_weights_that_are_decoded_are_no_part_of_what_a_sample_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.evaluation.MOST_BYTES", 2**15)  # a weight has more
    samples = torch.zeros(3, 1, 8, 8)
    expected = samples_at_once(DigitsLeNet().eval(), samples)
    assert 1 < expected < 1024
    assert samples_at_once(encoded_lenet().eval(), samples) == expected

"""Natural-gradient steps against the exact Gauss-Newton matrix, and what they do for a training."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from adtn import (
    AdtnError,
    FineTuneOptions,
    FitOptions,
    NotSampleWise,
    ShapeError,
    Structure,
    Sum,
    TrainingDiverged,
    brick_wall,
    compress,
    encoded,
    fine_tune,
    natural,
    tt_matrix,
)
from adtn.limits import MOST_NATURAL_NUMBERS
from adtn.natural import NaturalGradient, batch_size_for
from adtn.structure import AnyStructure

TT = tt_matrix((2, 2, 2), (2, 2, 3), (2, 2))
STRUCTURES = [TT, Sum((TT, tt_matrix((2, 4), (3, 4), (2,)))), brick_wall(7, depth=2)]


def classifier(structure: AnyStructure = TT, dtype: torch.dtype = torch.float64, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    norms = [nn.BatchNorm1d(8)] if norm else []
    model = nn.Sequential(nn.Linear(12, 8), *norms, nn.ReLU(), nn.Linear(8, 3)).to(dtype)
    compress(model, {"0.weight": structure}, FitOptions(steps=5))
    return model


def blobs(count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(3, 12, generator=generator, dtype=dtype)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return centres[labels] + torch.randn(count, 12, generator=generator, dtype=dtype), labels


class Looking(nn.Module):
    """A network whose forward looks at values."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).double()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.inner(inputs)
        return outputs if float(outputs.sum()) > 0 else -outputs


def factorise_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat models as if they had many numbers."""
    monkeypatch.setattr(natural, "_FACTORISED_ALWAYS", 0)


def run(network: natural.Network, inputs: Tensor) -> Tensor:
    return network(inputs)


def curvature(logits: Tensor, classes: str) -> Tensor:
    """Second derivatives of a sample's loss in its logits, written down by autograd: (classes, classes)."""

    def loss(z: Tensor) -> Tensor:
        if classes == "independent":  # the labels drop out of the second derivative
            return nn.functional.softplus(z).sum()
        return torch.logsumexp(z, 0)

    found: Tensor = torch.autograd.functional.hessian(loss, logits)
    return found


def gauss_newton(model: nn.Module, inputs: Tensor, classes: str, temperature: float | None) -> Tensor:
    """The mean over the samples of J^T H J, for the gates and then the dense parameters in the model's order."""
    named = sorted(model.named_parameters(), key=lambda item: "parametrizations" not in item[0])  # stable
    parameters = [parameter for _, parameter in named]
    count = sum(p.numel() for p in parameters)
    total = torch.zeros(count, count, dtype=inputs.dtype)
    for sample in inputs:
        outputs = model(sample.unsqueeze(0)).squeeze(0)
        slopes = [torch.autograd.grad(output, parameters, retain_graph=True) for output in outputs]
        rows = torch.stack([torch.cat([part.flatten() for part in slope]) for slope in slopes])
        logits = outputs.detach()
        wanted = curvature(logits, classes)
        if temperature is not None:
            wanted = wanted + curvature(logits / temperature, classes)
        total += rows.T @ wanted @ rows
    return total / len(inputs)


@pytest.mark.parametrize("structure", STRUCTURES, ids=["TT-matrix", "sum", "brick-wall"])
@pytest.mark.parametrize(("classes", "temperature"), [("exclusive", None), ("exclusive", 2.0), ("independent", 3.0)])
def test_the_curvature_is_the_gauss_newton_matrix_in_the_mean(
    structure: Structure, classes: natural.Classes, temperature: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(natural, "OBSERVED", 1.0)
    model, (inputs, _) = classifier(structure), blobs(5)
    exact = gauss_newton(model, inputs, classes, temperature)
    gradient = NaturalGradient(model, classes, run)
    torch.manual_seed(0)
    gradient.observe(inputs.repeat(6000, 1), temperature)
    found = gradient._outer / gradient._samples
    # 30,000 draws: the mean of their outer products is off by about 1 / sqrt(30,000 / 3), and no more in any entry.
    scale = torch.sqrt(exact.diagonal().unsqueeze(0) * exact.diagonal().unsqueeze(1))
    assert ((found - exact).abs() <= 0.05 * scale + 1e-12).all()
    assert torch.linalg.norm(found - exact) < 0.03 * torch.linalg.norm(exact)


@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize("structure", STRUCTURES, ids=["TT-matrix", "sum", "brick-wall"])
def test_gradients_of_the_gates_are_those_of_autograd_sample_by_sample(structure: Structure, bits: int | None) -> None:
    adtn = encoded(classifier(structure))["0.weight"]
    if bits is not None:
        adtn.quantise(bits)
        adtn.rounding = 0.7
    grads = torch.randn(4, 8, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = [torch.autograd.grad(adtn.decode(), adtn.gates, grad)[0] for grad in grads]
    torch.testing.assert_close(natural._pulled(adtn, grads), torch.stack(expected), rtol=1e-10, atol=1e-12)


def test_a_step_solves_the_damped_system() -> None:
    model, (inputs, labels) = classifier(), blobs(64)
    gradient = NaturalGradient(model, "exclusive", run)
    torch.manual_seed(0)
    gradient.zero_grad()
    nn.functional.cross_entropy(model(inputs), labels).backward()
    gradient.observe(inputs, None)
    fisher = gradient._outer / gradient._samples
    before = [p.detach().clone() for p in gradient._trained]
    slope = torch.cat([p.grad.reshape(-1) for p in gradient._trained if p.grad is not None])
    gradient.step(0.01, 64)  # too short for the limit on its length
    diagonal = fisher.diagonal()
    means = [part.mean().repeat(len(part)) for part in torch.split(diagonal, [p.numel() for p in gradient._trained])]
    scale = diagonal + natural._LEAST_CURVATURE * torch.cat(means)
    damping = natural.PACE.damping + len(fisher) / 16  # a quarter of the samples was looked at
    expected = torch.linalg.solve(fisher + damping * torch.diag(scale), slope)
    moved = torch.cat([(b - p.detach()).reshape(-1) for b, p in zip(before, gradient._trained, strict=True)])
    torch.testing.assert_close(moved, 0.01 * natural.PACE.rate * 64 / len(moved) * expected, rtol=1e-8, atol=1e-12)


def test_what_belongs_to_a_unit_that_is_hardly_ever_active_does_not_move_further_than_the_rest() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    hidden, last = model[0], model[2]
    assert isinstance(hidden, nn.Linear)
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        hidden.bias[0] = -1.0
        hidden.weight[0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    inputs = torch.randn(64, 4, dtype=torch.float64)
    inputs[:, 0].clamp_(max=1.0)
    inputs[-1, 0] = 1.05  # the only sample that the unit sees; the curvature is that of the others
    gradient = NaturalGradient(model, "exclusive", run)
    gradient.zero_grad()
    nn.functional.cross_entropy(model(inputs), torch.arange(64) % 3).backward()
    gradient.observe(inputs, None)
    before = last.weight.detach().clone()
    gradient.step(1.0, 64)
    moved = (last.weight.detach() - before).abs().amax(0)
    assert moved[0] > 0
    assert moved[0] < moved[1:].max()


class WithRareUnit(nn.Module):
    """A linear classifier beside a unit that sees inputs whose first entry is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.common, self.rare, self.out = nn.Linear(4, 2), nn.Linear(4, 1), nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.rare.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
            self.rare.bias.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.common(inputs) + self.out(torch.relu(self.rare(inputs)))
        return outputs


def test_what_belongs_to_a_unit_that_was_never_active_stops_nothing_else() -> None:
    torch.manual_seed(1)
    model = WithRareUnit().double()
    inputs = torch.randn(100, 4, dtype=torch.float64)
    inputs[:, 0] = -inputs[:, 0].abs()
    inputs[-1, 0] = 1.0  # the only sample that the unit sees; the curvature is that of others
    labels = torch.arange(100) % 2
    gradient = NaturalGradient(model, "exclusive", run)
    before = nn.functional.cross_entropy(model(inputs), labels)
    before.backward()
    gradient.observe(inputs, None)
    rare, common = model.rare.weight.detach().clone(), model.common.weight.detach().clone()
    gradient.step(1.0, 100)
    assert nn.functional.cross_entropy(model(inputs), labels) < before
    assert torch.equal(model.rare.weight.detach(), rare)  # it waits for a sample that says how far it may go
    assert not torch.equal(model.common.weight.detach(), common)
    gradient.observe(inputs.flip(0), None)
    gradient.step(1.0, 100)
    assert not torch.equal(model.rare.weight.detach(), rare)


def test_a_step_never_changes_the_outputs_by_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natural, "_LARGEST_CHANGE", math.inf)  # the other limit
    model, (inputs, labels) = classifier(), blobs(64)
    gradient = NaturalGradient(model, "exclusive", run)
    torch.manual_seed(0)
    (20 * nn.functional.cross_entropy(model(inputs), labels)).backward()
    gradient.observe(inputs, None)
    fisher = gradient._outer / gradient._samples
    before = [p.detach().clone() for p in gradient._trained]
    gradient.step(1.0, 64)
    moved = torch.cat([(b - p.detach()).reshape(-1) for b, p in zip(before, gradient._trained, strict=True)])
    assert float(moved @ fisher @ moved) == pytest.approx(natural._FARTHEST)


def test_a_step_never_changes_the_numbers_by_more_than_half_of_their_norm() -> None:
    model, (inputs, _) = classifier(), blobs(64)
    with torch.no_grad():
        model[-1].weight.mul_(1e-9)  # outputs hardly depend on the gates then
    for parameter in model[-1].parameters():
        parameter.requires_grad_(False)
    gradient = NaturalGradient(model, "exclusive", run)
    torch.manual_seed(0)
    gradient.observe(inputs, None)
    before = torch.cat([p.detach().reshape(-1) for p in gradient._trained])
    for parameter in gradient._trained:
        parameter.grad = torch.full_like(parameter, 1e-6)
    gradient.step(1.0, 64)
    moved = torch.cat([p.detach().reshape(-1) for p in gradient._trained]) - before
    assert float(moved.norm()) == pytest.approx(natural._LARGEST_CHANGE * float(before.norm()))


@pytest.mark.parametrize("where", ["gradient", "curvature"])
def test_a_step_that_is_not_finite_is_an_error_and_changes_nothing(where: str) -> None:
    model, (inputs, _) = classifier(), blobs(8)
    gradient = NaturalGradient(model, "exclusive", run)
    gradient.observe(inputs * (math.inf if where == "curvature" else 1), None)
    for parameter in gradient._trained:
        parameter.grad = torch.full_like(parameter, math.inf if where == "gradient" else 1.0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TrainingDiverged):
        gradient.step(1.0, 8)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("taught", [False, True])
def test_natural_epochs_get_further_than_those_of_adam(
    taught: bool, lasting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lasting:
        factorise_rarely(monkeypatch)
    inputs, labels = blobs(1000)
    teacher = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).double() if taught else None
    if teacher is not None:
        fine_tune(teacher, inputs, labels, FineTuneOptions(epochs=5, batch_size=32))
    losses = {}
    for natural_epochs in (0, 3):
        model = classifier(brick_wall(7, depth=2))
        options = FineTuneOptions(epochs=5, batch_size=32, natural_epochs=natural_epochs)
        losses[natural_epochs] = fine_tune(model, inputs, labels, options, copy.deepcopy(teacher)).last_loss
    assert losses[3] is not None
    assert losses[0] is not None
    assert losses[3] < losses[0]


def test_the_curvature_of_many_numbers_is_factorised_when_a_tenth_of_its_samples_is_newer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    factorise_rarely(monkeypatch)
    model, (inputs, labels) = classifier(), blobs(40)
    gradient = NaturalGradient(model, "exclusive", run)
    factorised: list[int] = []

    class Recorded(natural._Damped):
        def __init__(self, fisher: Tensor, damping: float, least: Tensor) -> None:
            factorised.append(gradient._steps - 1)
            super().__init__(fisher, damping, least)

    monkeypatch.setattr(natural, "_Damped", Recorded)
    torch.manual_seed(0)
    for _ in range(60):
        gradient.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        gradient.observe(inputs, None)
        gradient.step(1.0, 40)
    counted, newer, expected = 0.0, 0.0, []
    for after in range(60):
        counted, newer = 0.97 * counted + 10, newer + 10
        if newer > 0.1 * counted:
            expected.append(after)
            newer = 0.0
    assert factorised == expected
    assert expected[:10] == list(range(10))
    assert expected[-1] - expected[-2] == 3


def test_same_seed_gives_the_same_weights_to_the_last_bit() -> None:
    inputs, labels = blobs(200)
    states = []
    for noise in (1, 2):
        model = classifier()
        torch.manual_seed(noise)  # what the global generator did before must not matter
        fine_tune(model, inputs, labels, FineTuneOptions(epochs=2, natural_epochs=1))
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_frozen_parameters_and_what_becomes_of_samples_at_a_time_change_nothing() -> None:
    inputs, labels = blobs(120)
    trained = []
    for accumulate in (1, 3):
        model = classifier(norm=True)
        dense = {name: p.detach().clone() for name, p in model.named_parameters() if "parametrizations" not in name}
        options = FineTuneOptions(epochs=2, natural_epochs=2, batch_size=30, accumulate=accumulate, dense="freeze")
        done: list[tuple[int, int]] = []
        fine_tune(model, inputs, labels, options, on_step=lambda step, steps, _, done=done: done.append((step, steps)))
        assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in dense.items())
        count = 2 * math.ceil(120 / batch_size_for(120, encoded(model)["0.weight"].gates.numel()))
        assert done == [(step, count) for step in range(1, count + 1)]
        trained.append(encoded(model)["0.weight"].gates.detach().clone())
    assert torch.isfinite(trained[0]).all()
    assert not torch.equal(trained[0], encoded(classifier(norm=True))["0.weight"].gates)


@pytest.mark.parametrize("lasting", [False, True])
def test_gates_in_few_bits_are_trained_as_they_are_stored(lasting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if lasting:
        factorise_rarely(monkeypatch)
    inputs, labels = blobs(1000)
    correct = {}
    for natural_epochs in (0, 3):
        model = classifier(dtype=torch.float32)
        options = FineTuneOptions(epochs=5, batch_size=32, natural_epochs=natural_epochs, gate_bits=4)
        fine_tune(model, inputs.float(), labels, options)
        adtn = encoded(model)["0.weight"]
        assert adtn.bits == 4
        assert adtn.rounding == 1.0
        assert adtn.scales is not None
        multiples = adtn.numbers().detach() / adtn.scales
        torch.testing.assert_close(multiples, multiples.round(), rtol=0, atol=1e-4)
        correct[natural_epochs] = float((model.eval()(inputs.float()).argmax(1) == labels).float().mean())
    assert correct[3] > correct[0] - 0.03


def test_settled_gates_stay_and_the_others_go_on() -> None:
    model, (inputs, labels) = classifier(), blobs(200)
    adtn = encoded(model)["0.weight"]
    adtn.quantise(3)
    adtn.rounding = 0.0
    assert adtn.scales is not None
    gradient = NaturalGradient(model, "exclusive", run)
    torch.manual_seed(0)
    fixed = torch.zeros_like(adtn.gates, dtype=torch.bool)
    held = torch.zeros_like(adtn.gates)
    for share in (0.3, 0.6, 1.0):
        gradient.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        gradient.observe(inputs, None)
        before = adtn.gates.detach().clone()
        gradient.step(1.0, 64)
        assert torch.equal(adtn.gates.detach()[fixed], held[fixed])
        assert (adtn.gates.detach() != before)[~fixed].all()
        gradient.settle(share)
        multiples = adtn.gates.detach() / adtn.scales
        fixed = (multiples - multiples.round()).abs() < 1e-9
        assert int(fixed.sum()) == round(share * adtn.gates.numel())
        held = adtn.gates.detach().clone()
    shown = adtn.decode().detach()
    adtn.rounding = 1.0
    torch.testing.assert_close(adtn.decode().detach(), shown, rtol=1e-9, atol=1e-12)


def test_where_all_numbers_are_settled_the_last_steps_change_nothing() -> None:
    inputs, labels = blobs(200)
    model = classifier()
    seen: list[Tensor] = []
    options = FineTuneOptions(epochs=2, natural_epochs=1, gate_bits=4, dense="freeze")
    gates = encoded(model)["0.weight"].gates
    fine_tune(model, inputs, labels, options, on_step=lambda *_: seen.append(gates.detach().clone()))
    assert not torch.equal(seen[-3], seen[0])
    assert torch.equal(seen[-1], seen[-2])


@pytest.mark.parametrize("bits", [None, 4])
def test_frozen_gates_stay_as_they_are_beside_trained_ones(bits: int | None) -> None:
    inputs, labels = blobs(200)
    model = classifier()
    compress(model, {"2.weight": brick_wall(5, depth=1)}, FitOptions(steps=5))
    frozen = encoded(model)["2.weight"]
    frozen.gates.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    fine_tune(model, inputs, labels, FineTuneOptions(epochs=2, natural_epochs=1, gate_bits=bits))
    changed = {key for key, value in before.items() if not torch.equal(value, model.state_dict()[key])}
    assert changed == {"0.bias", "2.bias", "0.parametrizations.weight.0.gates"}
    assert frozen.bits is None


def test_norms_that_do_not_mix_samples_are_no_obstacle() -> None:
    inputs, labels = blobs(40)
    norm = nn.InstanceNorm1d(4)
    model = nn.Sequential(nn.Linear(12, 8), nn.Unflatten(1, (4, 2)), norm, nn.Flatten(), nn.Linear(8, 3)).double()
    compress(model, {"0.weight": TT}, FitOptions(steps=1))
    before = encoded(model)["0.weight"].gates.detach().clone()
    fine_tune(model, inputs, labels, FineTuneOptions(epochs=1, natural_epochs=1))
    assert not torch.equal(encoded(model)["0.weight"].gates.detach(), before)


class NeedsTwo(nn.Module):
    """A layer that takes no single sample."""

    def forward(self, inputs: Tensor) -> Tensor:
        if len(inputs) < 2:
            raise ValueError("expected two samples")
        return inputs


def test_models_that_cannot_take_the_steps_are_refused_before_anything_changes() -> None:
    inputs, labels = blobs(40)
    without_statistics = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 3))
    without_statistics.double()
    two = nn.Sequential(nn.Linear(12, 8), NeedsTwo(), nn.Linear(8, 3)).double()
    for model in (without_statistics, two):
        compress(model, {"0.weight": TT}, FitOptions(steps=1))
    normed = classifier(norm=True)
    wide = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1000), nn.ReLU(), nn.Linear(1000, 3)).double()
    compress(wide, {"0.weight": TT}, FitOptions(steps=1))
    looking = Looking()
    compress(looking, {"inner.0.weight": TT}, FitOptions(steps=1))
    cases: list[tuple[nn.Module, FineTuneOptions, type[AdtnError], str]] = [
        (normed, FineTuneOptions(epochs=2, natural_epochs=1), NotSampleWise, "the batch norm '1'"),
        (
            wide,
            FineTuneOptions(epochs=2, natural_epochs=1),
            NotSampleWise,
            f"at most {MOST_NATURAL_NUMBERS:,} trained numbers",
        ),
        (looking, FineTuneOptions(epochs=2, natural_epochs=1), NotSampleWise, "one by one: .*data-dependent"),
        (
            without_statistics,
            FineTuneOptions(epochs=2, natural_epochs=1, dense="freeze"),
            NotSampleWise,
            "the batch norm '1', which has no running statistics",
        ),
        (two, FineTuneOptions(epochs=2, natural_epochs=1), NotSampleWise, "one by one: expected two samples"),
        (normed, FineTuneOptions(epochs=2, natural_epochs=3), ShapeError, "0 to 2, all epochs, got 3"),
        (normed, FineTuneOptions(epochs=2, natural_epochs=-1), ShapeError, "got -1"),
    ]
    for model, options, error, message in cases:
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(error, match=message):
            fine_tune(model, inputs, labels, options)
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    ("samples", "numbers", "expected"),
    [(1, 9, 1), (49, 2, 1), (1149, 2266, 114), (1149, 60, 30), (50_000, 1600, 1000), (10**7, 4096, 1000)],
)
def test_batches_are_large_but_leave_steps_to_an_epoch(samples: int, numbers: int, expected: int) -> None:
    assert batch_size_for(samples, numbers) == expected

import copy
import math

import pytest
import torch
from support.contractions import Contractions
from torch import Tensor, nn
from torch.nn import functional

from adtn import (
    FineTuned,
    FineTuneOptions,
    FitOptions,
    NothingToTrain,
    ShapeError,
    TrainingDiverged,
    brick_wall,
    compress,
    encoded,
    fine_tune,
    tt_matrix,
)
from adtn.losses import distillation_loss, task_loss
from adtn.schedules import scheduler, warm_cosine
from adtn.stages import gate_rate


def blobs(count: int = 300) -> tuple[Tensor, Tensor]:
    """Points around 4 centres in 20 dimensions."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 20, generator=generator)
    labels = torch.randint(0, 4, (count,), generator=generator)
    return centres[labels] + 0.5 * torch.randn(count, 20, generator=generator), labels


def classifier(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(20, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(32, 32),
        nn.ReLU(),
        nn.Linear(32, 4),
    )


def compressed(seed: int = 0) -> nn.Sequential:
    model = classifier(seed)
    compress(model, {"4.weight": brick_wall(10)}, FitOptions(steps=5))
    return model


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        return float((model(inputs).argmax(1) == labels).float().mean())


OPTIONS = FineTuneOptions(epochs=4, batch_size=32)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_a_compressed_classifier_learns(schedule: str) -> None:
    inputs, labels = blobs()
    model = compressed()
    fine_tune(model, inputs, labels, FineTuneOptions(epochs=6, batch_size=32, schedule=schedule))
    assert accuracy(model, inputs, labels) > 0.95


def test_same_seed_gives_the_same_weights_to_the_last_bit() -> None:
    inputs, labels = blobs()
    states = []
    for noise in (1, 2):
        model, teacher = compressed(), classifier(3)
        torch.manual_seed(noise)  # what the global generator did before must not matter
        fine_tune(model, inputs, labels, OPTIONS, teacher)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_step_decodes_once_and_goes_back_once(contractions: Contractions) -> None:
    inputs, labels = blobs()
    model, teacher = classifier(), compressed(3)
    compress(model, {"4.weight": brick_wall(10), "0.weight": brick_wall(10)}, FitOptions(steps=1))
    counts: list[tuple[int, int]] = []
    contractions.taken()
    fine_tune(model, inputs, labels, OPTIONS, teacher, lambda *_: counts.append(contractions.taken()))
    teaching, together = (1, 0), (2, 2)  # 640 and 1,024 entries are two batches
    assert counts == [(teaching[0] + together[0], together[1])] + [together] * 39


def test_steps_are_those_of_a_loop_that_decodes_at_every_use() -> None:
    inputs, labels = blobs(32)
    model, plain = compressed(), compressed()
    options = FineTuneOptions(epochs=3, batch_size=32, distill=True)
    teacher = classifier(3)
    fine_tune(model, inputs, labels, options, teacher)
    torch.manual_seed(options.seed)
    plain.train()
    gates = encoded(plain)["4.weight"].gates
    dense = [p for p in plain.parameters() if p is not gates]
    rate = options.learning_rate
    optimiser = torch.optim.Adam([{"params": [gates], "lr": 8 * rate}, {"params": dense, "lr": rate}])
    rates = scheduler("cosine", optimiser, 3)
    order = torch.Generator().manual_seed(options.seed)
    with torch.no_grad():
        targets = teacher.eval()(inputs)
    for _ in range(3):
        batch = torch.randperm(32, generator=order)
        outputs = plain(inputs[batch])
        loss = functional.cross_entropy(outputs, labels[batch]) + distillation_loss(outputs, targets[batch], 2.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    torch.testing.assert_close(model.state_dict(), plain.state_dict())


def test_another_seed_gives_other_weights() -> None:
    inputs, labels = blobs()
    models = [compressed(), compressed()]
    for seed, model in enumerate(models):
        fine_tune(model, inputs, labels, FineTuneOptions(epochs=1, batch_size=32, seed=seed))
    assert not torch.equal(models[0][0].weight, models[1][0].weight)


def test_the_global_generator_is_given_back() -> None:
    state = torch.get_rng_state()
    model = compressed()
    torch.set_rng_state(state)
    fine_tune(model, *blobs(), OPTIONS)
    assert torch.equal(state, torch.get_rng_state())


def test_batch_norm_learns_its_statistics_and_dropout_is_active() -> None:
    inputs, labels = blobs()
    model = compressed()
    zeros: list[float] = []
    model[3].register_forward_hook(
        lambda module, args, out: zeros.append(float((out[args[0] > 0] == 0).float().mean()))
    )
    fine_tune(model, inputs, labels, OPTIONS)
    assert not torch.allclose(model[1].running_mean, torch.zeros(32))
    assert int(model[1].num_batches_tracked) == len(zeros) == 4 * 10
    assert sum(zeros) / len(zeros) == pytest.approx(0.2, abs=0.02)


def test_modes_are_restored_and_the_teacher_is_not_changed() -> None:
    model, teacher = compressed(), classifier(3)
    model.eval()
    model[1].train()
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    fine_tune(model, *blobs(), OPTIONS, teacher)
    assert (model.training, model[1].training, model[3].training, teacher.training) == (False, True, False, True)
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_frozen_parameters_stay_as_they_are() -> None:
    model = compressed()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    fine_tune(model, *blobs(), OPTIONS)
    assert torch.equal(model[0].weight, before)


def test_distillation_pulls_the_model_to_the_teacher() -> None:
    inputs, labels = blobs()
    teacher = classifier(3)
    fine_tune(teacher, inputs, labels, OPTIONS)
    wrong = (labels + 1) % 4  # so that what is learned from the teacher can be told from the labels
    shares = []
    for distill in (False, True):
        model = compressed()
        fine_tune(model, inputs, wrong, FineTuneOptions(epochs=4, batch_size=32, distill=distill), teacher)
        shares.append(accuracy(model, inputs, labels))
    assert shares[0] < 0.1 < 0.5 < shares[1]


def test_the_loss_of_independent_classes_is_what_is_minimised() -> None:
    inputs, labels = blobs(32)
    model, teacher, seen = without_noise().double(), classifier(3).double(), []
    options = FineTuneOptions(epochs=1, batch_size=32, classes="independent")
    before = copy.deepcopy(model)
    fine_tune(model, inputs.double(), labels, options, teacher, lambda *step: seen.append(step[2]))
    logits, targets = before.train()(inputs.double()), teacher.eval()(inputs.double())
    expected = task_loss(logits, labels, "independent") + distillation_loss(logits, targets, 2.0, "independent")
    assert seen == [pytest.approx(expected.item(), rel=1e-12)]


def test_progress_is_reported_and_may_stop_the_training() -> None:
    model = compressed()
    seen: list[tuple[int, int]] = []

    def watch(step: int, steps: int, loss: float) -> None:
        assert math.isfinite(loss)
        seen.append((step, steps))
        if step == 7:
            raise KeyboardInterrupt

    model.eval()
    with pytest.raises(KeyboardInterrupt):
        fine_tune(model, *blobs(), OPTIONS, on_step=watch)
    assert seen == [(n, 40) for n in range(1, 8)]
    assert not model.training


def test_a_loss_that_is_not_finite_stops_with_a_clear_error() -> None:
    with pytest.raises(TrainingDiverged, match=r"step \d+ of 40; use a smaller learning_rate"):
        fine_tune(compressed(), *blobs(), FineTuneOptions(epochs=4, batch_size=32, learning_rate=1e30))


def test_numbers_that_the_last_step_has_ruined_are_refused_though_every_loss_was_finite() -> None:
    losses: list[float] = []
    model = compressed()
    model[0].weight.register_hook(lambda gradient: gradient * math.nan if losses else gradient)
    options = FineTuneOptions(epochs=2, batch_size=64)
    with pytest.raises(
        TrainingDiverged, match=r"0\.weight holds numbers that are not finite after the last of 2 steps"
    ):
        fine_tune(model, *blobs(64), options, on_step=lambda *step: losses.append(step[2]))
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))


def test_a_last_batch_of_one_sample_is_left_out() -> None:
    inputs, labels = blobs(33)
    steps: list[int] = []
    fine_tune(compressed(), inputs, labels, FineTuneOptions(1, batch_size=32), on_step=lambda *a: steps.append(a[1]))
    assert steps == [1]


def test_no_epochs_change_nothing() -> None:
    model = compressed()
    before = copy.deepcopy(model.state_dict())
    fine_tune(model, *blobs(), FineTuneOptions(epochs=0))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_inputs_and_labels_must_match() -> None:
    inputs, labels = blobs()
    with pytest.raises(ShapeError, match="got 300 and 299"):
        fine_tune(compressed(), inputs, labels[:-1])
    with pytest.raises(ShapeError, match="got 0 and 0"):
        fine_tune(compressed(), inputs[:0], labels[:0])


def test_gates_learn_faster_than_dense_weights_but_slower_in_deep_and_wide_networks() -> None:
    options = FineTuneOptions(learning_rate=0.01)
    assert gate_rate(brick_wall(8, 2), options) == pytest.approx(0.08)
    assert gate_rate(brick_wall(8, 1), options) == pytest.approx(0.08)
    small, large = tt_matrix((4, 4), (4, 4), (4,)), tt_matrix((40, 50), (40, 25), (1,))
    assert gate_rate(small, options) == pytest.approx(0.08)
    assert gate_rate(large, options) == pytest.approx(0.08 * (500 / large.parameters) ** 0.5)
    assert gate_rate(brick_wall(8, 4), options) == pytest.approx(0.04)
    assert gate_rate(brick_wall(8, 2, 4), options) == pytest.approx(0.02)
    assert gate_rate(brick_wall(8, 4), FineTuneOptions(gate_learning_rate=0.5)) == 0.5


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_learning_rates_rise_to_their_peak_and_fall_to_almost_nothing(schedule: str, steps: int) -> None:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    rates = scheduler(schedule, optimiser, steps)  # type: ignore[arg-type]
    seen = []
    for _ in range(steps):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        rates.step()
    peak = seen.index(max(seen))
    assert seen[: peak + 1] == sorted(seen[: peak + 1])
    assert seen[peak:] == sorted(seen[peak:], reverse=True)
    assert max(seen) <= 0.5
    assert steps < 100 or (max(seen) == pytest.approx(0.5) and seen[0] < 0.1 and seen[-1] < 0.01)


def test_cosine_warms_up_for_a_tenth_of_the_steps() -> None:
    assert warm_cosine(0, 100) == pytest.approx(1 / 11)
    assert warm_cosine(10, 100) == 1
    assert warm_cosine(55, 100) == pytest.approx(0.5)


def test_a_dense_model_can_be_trained_too() -> None:
    inputs, labels = blobs()
    model = classifier()
    fine_tune(model, inputs, labels, OPTIONS)
    assert not encoded(model)
    assert accuracy(model, inputs, labels) > 0.95


def test_frozen_dense_parts_stay_as_they_are_while_the_gates_learn() -> None:
    inputs, labels = blobs()
    model = compressed()
    model[6].weight.requires_grad_(False)
    before, gates = copy.deepcopy(model.state_dict()), encoded(model)["4.weight"].gates
    fine_tune(model, inputs, labels, FineTuneOptions(epochs=4, batch_size=32, dense="freeze"))
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert changed == ["4.parametrizations.weight.0.gates"]  # no bias, and no running statistics
    assert all(parameter.grad is None for parameter in model.parameters() if parameter is not gates)
    assert [key for key, parameter in model.named_parameters() if not parameter.requires_grad] == ["6.weight"]
    assert accuracy(model, inputs, labels) > accuracy(compressed(), inputs, labels) + 0.1


@pytest.mark.parametrize("dense", ["train", "freeze"])
def test_a_norm_is_frozen_with_its_parameters(dense: str) -> None:
    model = compressed()
    model[1].requires_grad_(False)
    before = model[1].running_mean.clone()
    modes: list[bool] = []
    model[1].register_forward_hook(lambda module, *_: modes.append(module.training))
    fine_tune(model, *blobs(), FineTuneOptions(epochs=1, batch_size=100, dense=dense))  # type: ignore[arg-type]
    assert set(modes) == {False}
    assert torch.equal(model[1].running_mean, before)
    assert model[1].training


def test_a_model_with_nothing_to_train_is_refused() -> None:
    model = classifier()
    with pytest.raises(NothingToTrain, match="all are frozen"):
        fine_tune(model, *blobs(), FineTuneOptions(dense="freeze"))
    assert all(parameter.requires_grad for parameter in model.parameters())


def without_noise() -> nn.Sequential:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    compress(model, {"2.weight": brick_wall(10)}, FitOptions(steps=5))
    return model


@pytest.mark.parametrize("accumulate", [2, 3, 8, 1000])
@pytest.mark.parametrize("distill", [False, True])
def test_micro_batches_give_the_gradient_of_the_whole_batch(accumulate: int, distill: bool) -> None:
    inputs, labels = blobs(32)
    model, teacher = without_noise().double(), classifier(3).double()
    seen: list[float] = []
    options = FineTuneOptions(epochs=1, batch_size=32, accumulate=accumulate, distill=distill)
    fine_tune(model, inputs.double(), labels, options, teacher, lambda *step: seen.append(step[2]))
    plain = without_noise().double()
    plain.zero_grad()  # what the fit left
    outputs = plain(inputs.double())
    loss = functional.cross_entropy(outputs, labels)
    if distill:
        loss = loss + distillation_loss(outputs, teacher.eval()(inputs.double()).detach(), options.temperature)
    loss.backward()
    assert seen == [pytest.approx(loss.item(), rel=1e-12)]
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-9, atol=1e-12)


def test_a_step_decodes_once_however_many_micro_batches(contractions: Contractions) -> None:
    counts: list[tuple[int, int]] = []
    model = compressed()
    contractions.taken()
    options = FineTuneOptions(epochs=1, batch_size=100, accumulate=5)
    fine_tune(model, *blobs(), options, on_step=lambda *_: counts.append(contractions.taken()))
    assert counts == [(1, 1)] * 3


def test_a_network_sees_micro_batches_of_the_size_that_is_asked_for() -> None:
    model = compressed()
    sizes: list[int] = []
    model[0].register_forward_hook(lambda _module, args, _out: sizes.append(len(args[0])))
    fine_tune(model, *blobs(96), FineTuneOptions(epochs=1, batch_size=32, accumulate=4))
    assert sizes == [8] * 12


def test_half_precision_is_for_the_layers_alone() -> None:
    inputs, labels = blobs()
    dtypes: list[tuple[torch.dtype, torch.dtype]] = []
    model, teacher = compressed(), classifier(3)
    model[6].register_forward_hook(lambda module, args, out: dtypes.append((out.dtype, module.weight.dtype)))
    losses: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    options = FineTuneOptions(epochs=4, batch_size=32, precision="bfloat16")
    fine_tune(model, inputs, labels, options, teacher, lambda *step: losses["bfloat16"].append(step[2]))
    assert set(dtypes) == {(torch.bfloat16, torch.float32)}
    assert {value.dtype for value in model.state_dict().values()} <= {torch.float32, torch.int64}
    exact = compressed()
    fine_tune(exact, inputs, labels, OPTIONS, teacher, lambda *step: losses["float32"].append(step[2]))
    # bfloat16 has 8 bits: a loss of about 1 is right to a percent, and training is not led astray.
    assert losses["bfloat16"][0] == pytest.approx(losses["float32"][0], rel=0.02)
    assert losses["bfloat16"][-1] == pytest.approx(losses["float32"][-1], abs=0.1)
    assert losses["bfloat16"] != losses["float32"]
    assert accuracy(model, inputs, labels) > 0.9


def test_the_teacher_sees_what_a_transform_makes_of_a_batch() -> None:
    inputs, labels = blobs(64)

    def noisy(batch: Tensor, generator: torch.Generator) -> Tensor:
        return batch + torch.randn(batch.shape, generator=generator)

    class Watching(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model, self.seen = model, list[Tensor]()

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(x.detach().clone())
            return self.model(x)

    states = []
    for noise in (1, 2):
        model, teacher = Watching(compressed()), Watching(classifier(3))
        torch.manual_seed(noise)
        options = FineTuneOptions(epochs=2, batch_size=32, transform=noisy, accumulate=2)
        fine_tune(model, inputs, labels, options, teacher)
        assert torch.equal(torch.stack(model.seen), torch.stack(teacher.seen))
        assert len(teacher.seen) == 2 * 2 * 2
        assert not any(any(torch.equal(row, known) for known in inputs) for batch in teacher.seen for row in batch)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_what_the_training_took_is_told() -> None:
    fact = fine_tune(compressed(), *blobs(65), FineTuneOptions(epochs=3, batch_size=32), classifier(3))
    assert fact.samples == 3 * 64  # the one that is left over is not trained on
    assert fact.seconds > 0
    assert fact.preparation_seconds > 0
    assert fact.samples_per_second == fact.samples / fact.seconds
    nothing = fine_tune(compressed(), *blobs(), FineTuneOptions(epochs=0))
    assert (nothing, nothing.samples_per_second, nothing.loss_rose) == (FineTuned(), None, False)


@pytest.mark.parametrize(("rate", "rose"), [(1e-2, False), (30.0, True)])
def test_whether_the_loss_rose_is_told(rate: float, rose: bool) -> None:
    seen: list[float] = []
    options = FineTuneOptions(epochs=10, batch_size=32, learning_rate=rate, schedule="one_cycle")
    fact = fine_tune(compressed(), *blobs(64), options, on_step=lambda *step: seen.append(step[2]))
    assert fact.first_loss == pytest.approx(sum(seen[:2]) / 2)
    assert fact.last_loss == pytest.approx(sum(seen[-2:]) / 2)
    assert fact.loss_rose is (sum(seen[-2:]) > sum(seen[:2])) is rose


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_of_half_precision_learn_what_their_weights_can_say(dtype: torch.dtype) -> None:
    """By steps far below the rounding of the weights, which are around 0.2, half of them more than once around 4."""
    inputs, labels = blobs()
    model = compressed().to(dtype)
    model[3].p = 0.0
    with torch.no_grad():
        model[6].bias.fill_(4.0)
    single = copy.deepcopy(model).float()
    options = FineTuneOptions(epochs=6, batch_size=32, learning_rate=1e-4)
    fine_tune(model, inputs.to(dtype), labels, options)
    fine_tune(single, inputs, labels, options)
    assert all(
        p.dtype == (torch.float32 if p is encoded(model)["4.weight"].gates else dtype) for p in model.parameters()
    )
    moved = single[6].bias.detach() - 4.0
    assert moved.abs().max() < 2 * torch.finfo(dtype).eps * 4  # a step is less than a twentieth of that
    torch.testing.assert_close(model[6].bias.float(), single[6].bias, rtol=0, atol=torch.finfo(dtype).eps * 4)


def test_a_teacher_of_other_classes_is_refused() -> None:
    inputs, labels = blobs()
    teacher = classifier()
    teacher[6] = nn.Linear(32, 1)
    with pytest.raises(ShapeError, match=r"teacher: expected .* \(32, 4\), got \(32, 1\)"):
        fine_tune(compressed(), inputs, labels, OPTIONS, teacher)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("precision", "float16", "precision: expected one of float32, bfloat16, got 'float16'"),
        ("dense", "frozen", "dense: expected one of train, freeze, got 'frozen'"),
        ("schedule", "onecycle", "schedule: expected one of cosine, one_cycle, got 'onecycle'"),
        ("classes", "many", "classes: expected one of exclusive, independent, got 'many'"),
        ("accumulate", 0, "accumulate: expected at least 1, got 0"),
        ("batch_size", 0, "batch_size: expected at least 1, got 0"),
        ("epochs", -1, "epochs: expected at least 0, got -1"),
    ],
)
def test_options_that_mean_nothing_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        FineTuneOptions(**{name: value})

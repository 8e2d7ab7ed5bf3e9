"""Natural-gradient steps, for models with so few trained numbers that the curvature of all of them fits one matrix."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from adtn.blocks import HandedOut, handing_out
from adtn.coding import most
from adtn.decoding import decoded_once
from adtn.errors import NotSampleWise, TrainingDiverged
from adtn.generators import devices_with_generators
from adtn.limits import MOST_NATURAL_NUMBERS, OBSERVED
from adtn.losses import Classes
from adtn.module import ADTN
from adtn.quantising import spread
from adtn.settling import settle
from adtn.tracing import contract_plainly

WANTED_STEPS, FEWEST_STEPS = 50, 10
"""Of an epoch. Gradients need batches that are larger than Adam's: the noise in F^-1 g grows with the numbers."""
LARGEST_BATCH = 1000

Network = Callable[[Tensor], Tensor]
"""From inputs (B, ...) to logits (B, classes)."""

_DECAY = 0.97
"""What a step keeps of the curvature that was seen before."""
_MOMENTUM = 0.8
"""What a step keeps of the gradient that was seen before."""
_SETTLING_DAMPING = 0.03
"""That of `Pace`, where numbers make up for the rounding of others."""
_LEAST_CURVATURE = 1e-2
"""Of a number, relative to the mean of its parameter: what belongs to a unit that is hardly ever active has almost no
curvature in the samples that were seen, and one sample that does make it active would move it without bound."""
_FARTHEST = 0.03
"""Most that a step may change the outputs: the curvature along it, in nats."""
_LARGEST_CHANGE = 0.5
"""Most that a step may change the numbers, relative to their norm: what ends it where outputs hardly depend on them."""
_FACTORISED_ALWAYS = 4096
"""Numbers up to which the curvature is factorised in each step: that takes no longer than its samples do."""
_RENEWED = 0.1
"""Beyond, a factorisation lasts until this share of the samples that the curvature is a mean over is newer."""
_DECODED_ENTRIES = 2**24
"""Entries of the gradients of decoded weights, of all samples that are looked at together."""


class Pace(NamedTuple):
    """How far steps go.

    Args:
        rate: Of a step that the quadratic model calls the best one, where a batch has as many samples as there are
            numbers.
        damping: Added to the diagonal of the curvature, relative to it; besides, the numbers over the samples that were
            seen.
    """

    rate: float
    damping: float


PACE = Pace(rate=0.4, damping=0.1)
"""Found on held-out images, for 250 to 2,500 numbers in the gates of LeNet-5: see docs/accuracy.md."""


class NaturalGradient:
    """Steps along F^-1 g, with g the gradient and F the Fisher matrix of all trained numbers together.

    For cross entropy and for the distance from a teacher, F is the curvature of the loss in the outputs, brought back
    to the numbers (the Gauss-Newton matrix). It is estimated from one draw a sample: a gradient of the outputs with
    random signs and sizes whose second moment is that curvature. Both F and g are running means over the steps. Of many
    numbers F changes less in a step than is worth a factorisation, so that one lasts for some.

    Args:
        network: What runs at each step, in the modes in which it is trained. Its parameters that require a gradient are
            trained; no more than `MOST_NATURAL_NUMBERS` of them: the matrix has so many rows, and to factorise it takes
            their cube.
        classes: How its outputs become shares of the classes.
        outputs_of: Calls the network, perhaps with other parameters than its own, and returns its logits.
        pace: How far steps go.

    Raises:
        NotSampleWise: There are more numbers, or a batch norm mixes the samples of a batch.

    Time of a step O(samples * (numbers^2 + the decoding of a weight and its gradient) + numbers^3), the last in about
    every third step where there are more than 4,096. Memory O(numbers^2).
    Source: Amari, "Natural gradient works efficiently in learning", 1998; the sampled Fisher matrix and its damping:
    Martens and Grosse, arXiv:1503.05671; Martens, arXiv:1412.1193.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: Classes,
        outputs_of: Callable[[Network, Tensor], Tensor],
        pace: Pace = PACE,
    ) -> None:
        self._network = network
        self._classes = classes
        self._outputs_of = outputs_of
        self._pace = pace
        self._adtns = list(dict.fromkeys(m for m in network.modules() if isinstance(m, ADTN) and m.gates.requires_grad))
        gates = {id(adtn.gates) for adtn in self._adtns}
        self._dense = {
            name: p for name, p in network.named_parameters() if p.requires_grad and id(p) not in gates
        }  # a parameter that is used twice is named once
        self._trained = [*(adtn.gates for adtn in self._adtns), *self._dense.values()]
        count = sum(p.numel() for p in self._trained)
        check_count(count)
        check_norms(network)
        like = max(self._trained, key=lambda p: torch.finfo(p.dtype).bits).detach()
        self._outer = like.new_zeros(count, count)
        self._samples = 0.0
        self._newer = 0.0
        self._damped: _Damped | None = None
        self._gradient = like.new_zeros(count)
        self._steps = 0
        self._fades = False
        self._settled = torch.zeros(count, dtype=torch.bool, device=like.device)

    @property
    def numbers(self) -> int:
        """How many are trained."""
        return len(self._gradient)

    def try_out(self, inputs: Tensor) -> None:
        """Find out whether samples can be differentiated one by one. Nothing changes, no random number is used up.

        Args:
            inputs: Of a sample or two, (B, ...) on the model's device.

        Raises:
            NotSampleWise: They cannot: the forward looks at values, say, or does something in place.
        """
        kind = inputs.device.type
        try:
            with (
                torch.random.fork_rng(devices_with_generators(inputs.device), device_type=kind),
                decoded_once(self._network),  # as in each step: weights of frozen gates are at hand
            ):
                self._draws(inputs, None)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:  # modules refuse what they cannot take by either
            reason = str(error).splitlines()[0]
            raise NotSampleWise(f"natural_epochs: samples cannot be differentiated one by one: {reason}") from error

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        for parameter in self._trained:
            parameter.grad = None

    def observe(self, inputs: Tensor, taught: float | None) -> None:
        """Take the curvature of some of a step's samples into account.

        Args:
            inputs: (B, ...) on the model's device.
            taught: With a teacher, the temperature of the outputs that are compared with its own; else None.
        """
        inputs = inputs[: math.ceil(OBSERVED * len(inputs))]
        sizes = sum(adtn.shape.numel() for adtn in self._adtns)
        if self._fades:
            self._outer.mul_(_DECAY)
            self._samples *= _DECAY
            self._fades = False
        for part in torch.split(inputs, max(1, _DECODED_ENTRIES // max(1, sizes))):
            draws = self._draws(part, taught)
            self._outer.addmm_(draws.T, draws)
            self._samples += len(part)
            self._newer += len(part)

    @torch.no_grad()
    def step(self, share: float, samples: int) -> None:
        """Change the numbers, by the gradients that they have and the samples observed since the last step.

        Nothing is left to change where all are fixed.

        Args:
            share: Of the full rate, from 0 to 1.
            samples: Whose gradient it is.

        Raises:
            TrainingDiverged: The curvature, or the step, is not finite.
        """
        free = (~self._settled).nonzero().squeeze(1)
        if len(free) == 0:
            return
        self._steps += 1
        self._fades = True
        found = self._flat([torch.zeros_like(p) if p.grad is None else p.grad for p in self._trained])
        self._gradient.mul_(_MOMENTUM).add_(found, alpha=1 - _MOMENTUM)
        direction = torch.zeros_like(self._gradient)
        direction[free] = self._factorised(free).solve(self._gradient[free] / (1 - _MOMENTUM**self._steps))
        # F^-1 of the gradient's noise grows with the numbers.
        rate = self._pace.rate * share * min(1.0, samples / len(free))
        distance = float(direction @ (self._outer @ direction)) / self._samples * rate**2
        change = rate * float(direction.norm())
        if not math.isfinite(distance + change):
            raise TrainingDiverged(
                f"fine-tuning: a natural-gradient step changes the outputs by {distance} and the numbers by {change}"
            )
        if distance > _FARTHEST:
            shorter = math.sqrt(_FARTHEST / distance)
            rate, change = rate * shorter, change * shorter
        values = self._flat([p.detach() for p in self._trained])
        allowed = _LARGEST_CHANGE * float(values.norm())
        if change > allowed:
            rate *= allowed / change
        values -= rate * direction
        self._put(values)

    @torch.no_grad()
    def settle(self, share: float) -> None:
        """Fix numbers of the gates in few bits at whole multiples of their scales; those that are free make up for it.

        The next one is always that which costs the least. No step moves it any more. While a factorisation of the
        curvature lasts, nothing is fixed: the next call makes up for it.

        Args:
            share: Of all numbers of gates in few bits, how many are fixed after the call; with 1 it is all at once.

        Time O(numbers fixed * numbers^2 + numbers^3).
        Source: see `adtn.settling`, here with the curvature of a whole network; to fix weights little by little:
        arXiv:1702.03044.
        """
        steps, highest = self._grids()
        left = round((1 - share) * int((steps > 0).sum()))
        free = (~self._settled).nonzero().squeeze(1)
        count = int((steps[free] > 0).sum()) - left
        lasts = self._newer > 0 and share < 1
        if count <= 0 or lasts:
            return
        values = self._flat([p.detach() for p in self._trained])
        damping = _SETTLING_DAMPING + self._doubt(free)
        inverse = _Damped(self._fisher(free), damping, self._least_curvature()[free]).inverse()
        moved = values[free]
        fixed = settle(moved, steps[free], highest[free], inverse, count)
        values[free] = moved
        self._put(values)
        self._settled[free[fixed]] = True
        self._damped = None  # it was that of other numbers

    def _grids(self) -> tuple[Tensor, Tensor]:
        """For each number the step of its grid and the largest multiple; 0 for those that are stored as floats."""
        steps = torch.zeros_like(self._gradient)
        highest = torch.zeros_like(self._gradient)
        start = 0
        for adtn in self._adtns:
            stop = start + adtn.gates.numel()
            if adtn.bits is not None and adtn.scales is not None:
                steps[start:stop] = spread(adtn.scales, adtn.structure)
                highest[start:stop] = most(adtn.bits)
            start = stop
        return steps, highest

    def _factorised(self, free: Tensor) -> "_Damped":
        """The damped curvature of the numbers that are free: that of now, or of a few steps ago where they are many."""
        few = len(free) <= _FACTORISED_ALWAYS
        if self._damped is None or few or self._newer > _RENEWED * self._samples:
            damping = self._pace.damping + self._doubt(free)
            self._damped = _Damped(self._fisher(free), damping, self._least_curvature()[free])
            self._newer = 0.0
        return self._damped

    def _fisher(self, free: Tensor) -> Tensor:
        """The matrix of the numbers that are free, by their places: one that may be overwritten."""
        outer = self._outer if len(free) == len(self._outer) else self._outer[free][:, free]
        return outer / self._samples

    def _least_curvature(self) -> Tensor:
        """Of each number, what is added to its own."""
        parts = torch.split(self._outer.diagonal() / self._samples, [p.numel() for p in self._trained])
        return _LEAST_CURVATURE * torch.cat([part.mean().expand(len(part)) for part in parts])

    def _doubt(self, free: Tensor) -> float:
        """Damping for want of samples: a mean over few knows nothing of the curvature in most directions."""
        return len(free) / self._samples

    def _flat(self, parts: Sequence[Tensor]) -> Tensor:
        """One part a parameter, as one vector."""
        return torch.cat([part.reshape(-1).to(self._gradient) for part in parts])

    def _put(self, values: Tensor) -> None:
        """Give the parameters their values."""
        parts = torch.split(values, [p.numel() for p in self._trained])
        for parameter, part in zip(self._trained, parts, strict=True):
            parameter.copy_(part.view_as(parameter))

    def _draws(self, inputs: Tensor, taught: float | None) -> Tensor:
        """For each sample a vector whose outer product is its Fisher matrix in the mean, (B, numbers)."""
        weights = [adtn().detach() for adtn in self._adtns]  # in a `decoded_once` block they are at hand
        dense = {name: p.detach() for name, p in self._dense.items()}

        def of_sample(sample: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
            outputs, pull = vjp(lambda w, d: self._outputs(sample, w, d), weights, dense)[:2]
            found: tuple[list[Tensor], dict[str, Tensor]] = pull(_draw(outputs, self._classes, taught))
            return found

        of_weights, of_dense = vmap(of_sample, randomness="different")(inputs)
        parts = [_pulled(adtn, grad) for adtn, grad in zip(self._adtns, of_weights, strict=True)]
        parts += [of_dense[name].flatten(1) for name in self._dense]
        return torch.cat([part.to(self._outer) for part in parts], dim=1)

    def _outputs(self, sample: Tensor, weights: list[Tensor], dense: dict[str, Tensor]) -> Tensor:
        """The logits of one sample, (classes,)."""
        given: dict[nn.Module, HandedOut] = {
            adtn: HandedOut(adtn.gates, weight) for adtn, weight in zip(self._adtns, weights, strict=True)
        }
        with handing_out(given):
            outputs = self._outputs_of(lambda x: functional_call(self._network, dense, (x,)), sample.unsqueeze(0))
        return outputs.squeeze(0)


def batch_size_for(samples: int, numbers: int) -> int:
    """Samples of a step: as many as leave `WANTED_STEPS` to an epoch; more where they are few next to the numbers.

    Args:
        samples: Of an epoch, at least 1.
        numbers: That are trained.
    """
    wanted = max(samples // WANTED_STEPS, min(samples // FEWEST_STEPS, numbers // 2))
    return max(1, min(LARGEST_BATCH, wanted))


def check_count(count: int) -> None:
    """Refuse a model with too many trained numbers.

    Args:
        count: Of the numbers.

    Raises:
        NotSampleWise: There are more than `MOST_NATURAL_NUMBERS`.
    """
    if count > MOST_NATURAL_NUMBERS:
        raise NotSampleWise(
            f"natural_epochs: expected at most {MOST_NATURAL_NUMBERS:,} trained numbers, gates and what stayed dense "
            f"together, got {count:,}; 'dense': 'freeze' trains the gates alone"
        )


def check_norms(network: nn.Module) -> None:
    """Refuse a model whose samples depend on each other.

    Args:
        network: In the modes in which it is trained.

    Raises:
        NotSampleWise: A batch norm is in training mode, or has no running statistics.
    """
    for name, module in network.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        if module.running_mean is None:
            reason = "which has no running statistics, so that it always mixes them"
        elif module.training:
            reason = "which mixes them in training; 'dense': 'freeze' leaves it as it is"
        else:
            continue
        raise NotSampleWise(
            f"natural_epochs: expected samples that do not depend on each other, got the batch norm {name!r}, {reason}"
        )


def _draw(outputs: Tensor, classes: Classes, taught: float | None) -> Tensor:
    """A random vector whose second moment is the curvature of the loss of a sample in its outputs, (classes,)."""
    drawn = _draw_of(outputs, classes)
    return drawn if taught is None else drawn + _draw_of(outputs / taught, classes)


def _draw_of(logits: Tensor, classes: Classes) -> Tensor:
    """Of the cross entropy: its curvature is that of the distance from a teacher too, by the factor temperature^2."""
    noise = torch.randn_like(logits)
    if classes == "independent":
        shares = torch.sigmoid(logits)
        return (shares * (1 - shares)).sqrt() * noise
    shares = torch.softmax(logits, dim=-1)
    rooted = shares.sqrt() * noise
    return rooted - shares * rooted.sum()


def _pulled(adtn: ADTN, grads: Tensor) -> Tensor:
    """From gradients of the decoded weight (B, *shape) to those of the gates (B, numbers)."""
    numbers = adtn.numbers().detach()
    _, pull = vjp(lambda n: contract_plainly(n, adtn.structure)[: adtn.shape.numel()], numbers)[:2]
    found: Tensor = vmap(lambda grad: pull(grad)[0])(grads.flatten(1).to(numbers))
    if adtn.bits is None:
        return found
    (slope,) = torch.autograd.grad(adtn.numbers().sum(), adtn.gates)  # rounding acts on each number alone
    return found * slope


class _Damped:
    """F + damping * (its diagonal + least), factorised.

    Scaled to a diagonal of at most 1, the matrix is well conditioned. It is overwritten.
    """

    def __init__(self, fisher: Tensor, damping: float, least: Tensor) -> None:
        own = fisher.diagonal() + least
        self._known = own > 0
        self._root = own.clamp(min=torch.finfo(fisher.dtype).tiny).sqrt()
        scaled = fisher.div_(self._root).div_(self._root.unsqueeze(1))
        scaled.diagonal().add_(damping)
        self._factor, failed = torch.linalg.cholesky_ex(scaled)
        if failed:  # with this damping only where something is not finite
            raise TrainingDiverged("fine-tuning: the curvature of the natural gradient is not finite")

    def solve(self, gradient: Tensor) -> Tensor:
        """The inverse times a vector; 0 where nothing is known of a number's curvature, nor so of how far it may go."""
        known = torch.where(self._known, gradient / self._root, 0)
        return torch.cholesky_solve(known.unsqueeze(1), self._factor).squeeze(1) / self._root

    def inverse(self) -> Tensor:
        """The inverse."""
        return torch.cholesky_inverse(self._factor) / self._root / self._root.unsqueeze(1)

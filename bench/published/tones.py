"""Tones whose pitch is known, in noise: the labelled data of a pitch tracker, made here."""

import math

import torch
from torch import Tensor

from bench.published.samples import Samples, Split

SAMPLE_RATE = 16_000
FRAME = 1024
"""Samples of sound in a frame, 64 ms."""
CENTS_PER_BIN = 20
LOWEST_CENTS = 1997.3794084376191
"""Of bin 0, above 10 Hz; with the width of a bin these are the constants of CREPE, 31.7 Hz and up."""
BINS = range(60, 300)
"""Pitches that occur: 63 to 1,003 Hz, those of voices and of most instruments."""
HARMONICS = 8
LEAST_FUNDAMENTAL = 0.2
"""Added to the loudness of the first harmonic. That of each is drawn from 0 to 1 / its number."""
LOUDEST_NOISE_DB, FAINTEST_NOISE_DB = 0, -30
"""Of the noise, relative to the tone."""
TRAIN, TEST = 8000, 4000


def samples() -> Samples:
    """Two disjoint streams of random numbers give the training and the test frames."""
    return Samples(frames(TRAIN, seed=1), frames(TEST, seed=2))


def frequency(cents: Tensor) -> Tensor:
    """In Hz, of a pitch in cents above 10 Hz."""
    return 10 * 2 ** (cents / 1200)


def frames(count: int, seed: int) -> Split:
    """Draw tones: the pitch anywhere within its bin, harmonics of random loudness and phase, white noise.

    Args:
        count: How many.
        seed: Of all that is random.

    Returns:
        Frames (count, FRAME) with mean 0 and standard deviation 1, as CREPE takes them, and the bins of the pitches.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    bins = torch.randint(BINS.start, BINS.stop, (count,), generator=generator)
    pitch = frequency(LOWEST_CENTS + CENTS_PER_BIN * (bins + uniform(count) - 0.5))
    loudness = uniform(count, HARMONICS) / torch.arange(1, HARMONICS + 1)
    loudness[:, 0] += LEAST_FUNDAMENTAL
    tone = harmonics(pitch, loudness, uniform(count, HARMONICS))
    level = LOUDEST_NOISE_DB + (FAINTEST_NOISE_DB - LOUDEST_NOISE_DB) * uniform(count, 1)
    noise = torch.randn(tone.shape, generator=generator, dtype=torch.float64)
    return Split(normalised(tone + tone.std(1, keepdim=True) * 10 ** (level / 20) * noise).float(), bins)


def harmonics(pitch: Tensor, loudness: Tensor, turns: Tensor) -> Tensor:
    """Sums of sines; those above half of the sampling rate are left out.

    Args:
        pitch: In Hz, (count,).
        loudness: Of each harmonic, (count, HARMONICS).
        turns: Their phases at the start, in turns, (count, HARMONICS).

    Returns:
        (count, FRAME).
    """
    time = torch.arange(FRAME, dtype=torch.float64) / SAMPLE_RATE
    tone = torch.zeros(len(pitch), FRAME, dtype=torch.float64)
    for number in range(HARMONICS):
        overtone = (number + 1) * pitch[:, None]  # (count, 1)
        sine = torch.sin(2 * math.pi * (overtone * time + turns[:, number, None]))
        tone += loudness[:, number, None] * (overtone < SAMPLE_RATE / 2) * sine
    return tone


def normalised(sound: Tensor) -> Tensor:
    """Frames with mean 0 and standard deviation 1."""
    centred = sound - sound.mean(1, keepdim=True)
    return centred / centred.std(1, keepdim=True)

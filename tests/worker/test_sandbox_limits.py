"""Limits grow with the file, and not without end."""

import pytest

from jobs import files
from worker.sandbox import Limits


def test_a_checkpoint_may_expand_twofold_and_be_held_three_times():
    small, large = (Limits().budget("checkpoint", size) for size in (2**20, 2**31))
    assert large.memory_bytes - small.memory_bytes == 3 * (2**31 - 2**20)
    assert large.output_bytes - small.output_bytes == 2 * (2**31 - 2**20)
    assert large.wall_s > small.wall_s
    assert large.cpu_s > small.cpu_s


def test_a_data_set_may_expand_but_only_so_far():
    limits = Limits(expanding_bytes=100, expansion=10, dataset_bytes=1000)
    assert limits.budget("dataset", 5).output_bytes == 150
    assert limits.budget("dataset", 10**6).output_bytes == 1000
    assert limits.budget("dataset", 5).memory_bytes == limits.memory_bytes + 15


@pytest.mark.parametrize("gib", [0, 0.5, 8])
def test_a_file_is_claimed_for_longer_than_it_may_be_read(gib: float) -> None:
    claimed = files.INSPECTION_S + files.INSPECTION_S_PER_GIB * gib
    for purpose in ("checkpoint", "dataset"):
        assert Limits().budget(purpose, int(gib * 2**30)).wall_s < claimed

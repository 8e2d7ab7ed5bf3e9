"""A process that has ended is replaced at once."""

from types import SimpleNamespace

from worker.pool import LOOK_S, PromptReplacement


def test_the_pool_looks_for_ended_processes_several_times_a_second() -> None:
    looks: dict[float, object] = {}
    hub = SimpleNamespace(call_repeatedly=looks.__setitem__)
    worker = SimpleNamespace(pool=SimpleNamespace(maintain_pool=object()), steps=[])
    PromptReplacement(worker).register_with_event_loop(worker, hub)
    assert looks == {LOOK_S: worker.pool.maintain_pool}
    assert LOOK_S < 0.5

"""The process that starts the stack, starts again what dies, and stops everything."""

import os
import signal
import time
from collections.abc import Callable, Sequence

import httpx

from adtn_client.errors import StackError
from adtn_client.stack import kernel, ports, programs, redis
from adtn_client.stack.child import Child
from adtn_client.stack.layout import Layout
from adtn_client.stack.messages import announce, say

READY_WITHIN_S = 90.0
TICK_S = 0.1
# Long enough for a worker to come to a check in its job, give the job back to the queue and end.
STOP_GRACE_S = 30.0
REDIS_GRACE_S = 10.0


class StopRequested(Exception):
    """A signal asked to stop before the stack was ready."""


class Supervisor:
    """Runs one stack in this process until a signal stops it.

    Args:
        layout: Where everything lies; its folders exist.
        host: Address that the API listens on.
        port: Port that the API listens on.
    """

    def __init__(self, layout: Layout, host: str, port: int) -> None:
        variables = programs.environment(layout, host, port)
        self._layout = layout
        self._url = ports.url_of(host, port)
        self._local_url = ports.local_url_of(host, port)
        self._redis = programs.redis_child(layout)
        self._api = programs.api_child(layout, variables)
        self._workers = programs.worker_children(layout, variables)
        self._stops = 0

    def run(self) -> None:
        """Start, print the ready line, supervise, stop.

        Raises:
            StackError: A process ended, or did not answer in time, before the stack was ready.
        """
        kernel.adopt_orphans()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._start()
            announce(f"ready {self._url}")
            while not self._stops:
                self._tick()
                time.sleep(TICK_S)
        except StopRequested:
            pass
        finally:
            self._stop()

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stops += 1

    def _start(self) -> None:
        say(f"logs are in {self._layout.logs}")
        self._redis.start()
        self._wait_for(lambda: redis.answers(self._layout.redis_socket), "Redis does not answer", [self._redis])
        for child in (self._api, *self._workers):
            child.start()
        self._wait_for(self._api_is_ready, f"{self._local_url}/readyz does not answer 200", [self._redis, self._api])

    def _wait_for(self, condition: Callable[[], bool], otherwise: str, needed: Sequence[Child]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not condition():
            if self._stops:
                raise StopRequested
            for child in needed:
                how = child.ended()
                if how:
                    raise StackError(f"{child.name} {how} while starting; {child.log} ends with:\n{child.last_lines()}")
            if time.monotonic() > deadline:
                logs = ", ".join(str(child.log) for child in needed)
                raise StackError(f"{otherwise} within {READY_WITHIN_S:.0f} s; see {logs}")
            time.sleep(TICK_S)

    def _api_is_ready(self) -> bool:
        try:
            # trust_env=False: a proxy of the user's must not answer for this machine.
            return httpx.get(f"{self._local_url}/readyz", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def _children(self) -> list[Child]:
        return [self._redis, self._api, *self._workers]

    def _tick(self) -> None:
        """Notice deaths, and start again what has waited long enough."""
        for child in self._children():
            how = child.ended()
            if how:
                # A dead worker's pool processes are orphans now: they must not go on beside its successor.
                self._kill_orphans()
                say(f"{child.name} {how}; starting it again in {child.plan_restart():g} s (log: {child.log})")
            elif child.restart_if_due():
                say(f"{child.name} was started again")
        kernel.reap_strangers(self._pids())

    def _pids(self) -> set[int]:
        return {child.pid for child in self._children() if child.pid is not None}

    def _kill_orphans(self) -> None:
        for pid in kernel.children_by_parent().get(os.getpid(), []):
            if pid not in self._pids():
                kernel.kill(pid)

    def _stop(self) -> None:
        """End every process: in order while there is time, by force after that or at a second signal."""
        say("stopping")
        asked = self._stops
        self._end([self._api, *self._workers], STOP_GRACE_S, asked)
        # Redis last: a worker that gives its job back needs the queue.
        self._end([self._redis], REDIS_GRACE_S, asked)
        for child in self._children():
            child.kill_group()
        kernel.end_descendants(grace_s=0)
        say("stopped")

    def _end(self, children: Sequence[Child], grace_s: float, asked: int) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and self._stops <= max(asked, 1):
            for child in children:
                child.ended()
            if all(child.pid is None for child in children):
                return
            time.sleep(TICK_S / 2)

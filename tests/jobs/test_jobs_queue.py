"""The queue: a message is an id, and a Redis that does not answer is noticed soon."""

import base64
import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery

from jobs.queue import INSPECT_FILE, RUN_JOB, QueueUnavailable, make_app, publish_file, publish_job, waiting
from jobs.settings import Settings

pytestmark = pytest.mark.redis


def test_a_message_carries_an_id_and_nothing_else(app: Celery, redis_url: str) -> None:
    publish_job(app, "job_1")
    publish_file(app, "file_1")
    with redis.Redis(unix_socket_path=redis_url.removeprefix("redis+socket://")) as client:
        for name, task, id in (("jobs", RUN_JOB, "job_1"), ("files", INSPECT_FILE, "file_1")):
            message = json.loads(client.lindex(name, 0))
            assert message["content-type"] == "application/json"
            assert message["headers"]["task"] == task
            assert json.loads(base64.b64decode(message["body"]))[:2] == [[id], {}]


def test_waiting_counts_the_messages_of_one_queue(app: Celery) -> None:
    assert waiting(app, "jobs") == 0
    publish_job(app, "job_1")
    publish_job(app, "job_2")
    assert (waiting(app, "jobs"), waiting(app, "files")) == (2, 0)


@pytest.mark.parametrize("call", [lambda app: publish_job(app, "job_1"), lambda app: waiting(app, "jobs")])
def test_a_redis_that_is_down_is_noticed_and_used_again_when_it_is_back(
    call: Callable[[Celery], object], redis_process: Any
) -> None:
    app = make_app(Settings(broker_url=redis_process.url))
    redis_process.stop()
    with pytest.raises(QueueUnavailable):
        call(app)
    redis_process.start()
    call(app)
    app.close()


def test_a_redis_that_hangs_is_noticed(redis_process: Any) -> None:
    app = make_app(Settings(broker_url=redis_process.url, broker_timeout_s=0.2))
    redis_process.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(QueueUnavailable):
            publish_job(app, "job_1")
    finally:
        redis_process.process.send_signal(signal.SIGCONT)
    app.close()


def test_no_setting_lets_a_message_run_twice_or_vanish() -> None:
    conf = make_app(Settings(task_limit_s=1000)).conf
    assert conf.result_backend is None
    assert conf.accept_content == ["json"]
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost is False
    assert conf.worker_prefetch_multiplier == 1
    # A task may take its whole time before Redis gives its message to another worker.
    assert conf.broker_transport_options["visibility_timeout"] > 1000
    assert conf.visibility_timeout > 1000

"""What happens to a job when a process, a message or the broker is lost: it ends once, and nothing is lost."""

import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis
from support.api import create, finished, succeeded, upload
from support.stack import Stack
from support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.redis]

LONG = {"epochs": 1000, "batch_size": 16}


@pytest.fixture(scope="module")
def settings(stack: Stack, checkpoint: Path) -> dict[str, Any]:
    with stack.client() as api:
        file = upload(api, checkpoint)
    return {
        "checkpoint": file["id"],
        "architecture": "lenet5",
        "dataset": "digits",
        "compression": {"layers": ["fc1"], "structure": {"depth": 1}},
        "fit": {"steps": 20},
    }


def in_stage(api: httpx.Client, job_id: str, stage: str) -> dict[str, Any]:
    for _ in range(600):
        job: dict[str, Any] = api.get(f"/v1/jobs/{job_id}").json()
        if job["stage"] == stage or job["status"] in {"failed", "succeeded"}:
            assert job["stage"] == stage, job
            return job
        time.sleep(0.1)
    raise AssertionError(f"{job_id} did not come to {stage}")


def pool_processes(stack: Stack) -> list[psutil.Process]:
    """The processes that run tasks of the `jobs` queue: children of its worker."""
    (worker, *_) = sorted(stack.processes("worker", "jobs"), key=lambda process: process.create_time())
    return [child for child in worker.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]


def test_job_of_a_killed_process_is_run_again_and_succeeds(
    stack: Stack, api: httpx.Client, settings: dict[str, Any]
) -> None:
    job_id = create(api, **settings, fine_tune={"epochs": 40, "batch_size": 32})["id"]
    in_stage(api, job_id, "fine_tune")
    for process in pool_processes(stack):
        process.kill()
    job = succeeded(api, job_id)
    assert job["attempt"] == 2
    types = [event["type"] for event in api.get(f"/v1/jobs/{job_id}/events", params={"limit": 1000}).json()["data"]]
    assert types.count("job.succeeded") == 1


def test_a_search_goes_on_after_the_trials_that_have_ended(
    stack: Stack, api: httpx.Client, settings: dict[str, Any]
) -> None:
    searched = {
        "compression": {"target": {"max_accuracy_drop": 100}},
        "fine_tune": {"epochs": 8, "batch_size": 16},
        "search": {"max_trials": 3},
    }
    job_id = create(api, **settings | searched)["id"]
    trials = stack.data_dir / "objects" / "jobs" / job_id / "trials"
    wait_until(lambda: list(trials.glob("*.json")), within_s=60)
    ended = {path: path.read_bytes() for path in trials.glob("*.json")}
    for process in pool_processes(stack):
        process.kill()
    job = succeeded(api, job_id)
    assert job["attempt"] == 2
    assert len(job["report"]["search"]["trials"]) == len(list(trials.glob("*.json"))) > 1
    assert {path: path.read_bytes() for path in ended} == ended  # a trial that is run again takes other seconds
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert not list(trials.glob("*.json"))


def test_an_original_that_was_trained_further_is_taken_over(
    stack: Stack, api: httpx.Client, settings: dict[str, Any]
) -> None:
    wish = {"epochs": 40, "teacher_epochs": 4, "batch_size": 32}
    job_id = create(api, **settings, fine_tune=wish)["id"]
    folder = stack.data_dir / "objects" / "jobs" / job_id / "teacher"
    in_stage(api, job_id, "fine_tune")
    (kept,) = folder.iterdir()
    before = kept.stat()
    for process in pool_processes(stack):
        process.kill()
    wait_until(lambda: api.get(f"/v1/jobs/{job_id}").json()["attempt"] == 2, within_s=60)
    in_stage(api, job_id, "fine_tune")
    assert list(folder.iterdir()) == [kept]
    after = kept.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "it was not written again"
    assert succeeded(api, job_id)["report"]["accuracy"]["teacher"] is not None
    assert not kept.exists()


def test_cancelled_job_ends_and_frees_the_worker(api: httpx.Client, settings: dict[str, Any]) -> None:
    job_id = create(api, **settings, fine_tune=LONG)["id"]
    in_stage(api, job_id, "fine_tune")
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code in {200, 202}
    assert finished(api, job_id, within_s=30)["status"] == "cancelled"
    assert api.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    succeeded(api, create(api, **settings, fine_tune={"epochs": 1})["id"])


def test_message_that_comes_twice_runs_the_job_once(stack: Stack, api: httpx.Client, settings: dict[str, Any]) -> None:
    from jobs.queue import make_app, publish_job
    from jobs.settings import Settings

    job_id = create(api, **settings, fine_tune={"epochs": 1})["id"]
    app = make_app(Settings(data_dir=stack.data_dir, broker_url=broker_url(stack)))
    for _ in range(3):
        publish_job(app, job_id)
    assert succeeded(api, job_id)["attempt"] == 1
    after = succeeded(api, create(api, **settings, fine_tune={"epochs": 1})["id"])
    assert after["attempt"] == 1
    assert api.get(f"/v1/jobs/{job_id}").json()["attempt"] == 1


def test_message_that_is_lost_is_published_again(stack: Stack, api: httpx.Client, settings: dict[str, Any]) -> None:
    blocker = create(api, **settings, fine_tune=LONG)["id"]
    in_stage(api, blocker, "fine_tune")
    job_id = create(api, **settings, fine_tune={"epochs": 1})["id"]
    client = redis.Redis(unix_socket_path=broker_url(stack).removeprefix("redis+socket://"))
    assert client.delete("jobs") == 1
    client.close()
    api.post(f"/v1/jobs/{blocker}/cancel")
    succeeded(api, job_id)


def broker_url(stack: Stack) -> str:
    """The broker that the API of the stack was told to use."""
    (api, *_) = stack.processes("service")
    return api.environ()["ADTN_BROKER_URL"]

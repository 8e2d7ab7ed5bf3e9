"""Jobs over HTTP: created, watched, cancelled, retried, deleted."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_support import SAFETENSORS, Server, Worker, layer, problem

from jobs import leases, records
from jobs.leases import Progress
from jobs.problems import ProblemError
from jobs.schemas.settings import JobSettings

NOBODY = "waiting for a worker: none is running"


@pytest.fixture
def job(checkpoint: str, api: httpx.Client) -> dict[str, Any]:
    """A queued job."""
    answer = api.post("/v1/jobs", json={"checkpoint": checkpoint})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_job_is_accepted_with_its_place_and_all_its_settings(checkpoint: str, api: httpx.Client) -> None:
    settings = {
        "checkpoint": checkpoint,
        "architecture": "lenet5",
        "dataset": "digits",
        "compression": {
            "layers": ["conv2", "fc1", "fc2"],
            "structure": {"depth": 2, "gate_sites": 2, "activation": "relu"},
            "target": None,
            "gate_bits": 4,
        },
        "fine_tune": {"epochs": 3, "gate_learning_rate": 0.04},
        "metadata": {"team": "vision"},
        "name": "lenet",
    }
    answer = api.post("/v1/jobs", json=settings)
    job = answer.json()
    assert answer.status_code == 202
    assert (answer.headers["location"], answer.headers["retry-after"]) == (f"/v1/jobs/{job['id']}", "1")
    assert (job["object"], job["status"], job["attempt"], job["stage"]) == ("job", "queued", 0, None)
    assert job["queue_position"] >= 1
    assert job["request"]["compression"] == settings["compression"]
    assert job["request"]["fine_tune"] == {
        "epochs": 3,
        "learning_rate": 0.005,
        "gate_learning_rate": 0.04,
        "batch_size": 256,
        "natural_epochs": 0,
        "teacher_epochs": 0,
        "schedule": "cosine",
        "distill": True,
        "temperature": 2.0,
        "dense": "train",
        "accumulate": 1,
        "precision": "float32",
    }
    assert api.get(answer.headers["location"]).json() == job


def test_one_request_with_files_makes_files_and_job(worker: Worker, api: httpx.Client) -> None:
    form = {
        "settings": (None, json.dumps({"architecture": "lenet5", "seed": 7})),
        "checkpoint": ("lenet.safetensors", SAFETENSORS),
        "dataset": ("data.npz", b"PK\x03\x04" + bytes(900)),
    }
    answer = api.post("/v1/jobs", files=form)
    assert answer.status_code == 202, answer.text
    request = answer.json()["request"]
    files = [api.get(f"/v1/files/{request[purpose]}").json() for purpose in ("checkpoint", "dataset")]
    assert [(file["filename"], file["purpose"]) for file in files] == [
        ("lenet.safetensors", "checkpoint"),
        ("data.npz", "dataset"),
    ]
    assert (request["architecture"], request["seed"]) == ("lenet5", 7)
    assert "to be inspected" in answer.json()["progress"]["message"]


@pytest.mark.parametrize(
    ("settings", "status", "code", "pointer"),
    [
        ('{"architecture": "vgg"}', 422, "unknown_architecture", "/architecture"),
        ('{"seed": -1}', 422, "validation_failed", "/seed"),
        ('{"checkpoint": "file_x"}', 422, "validation_failed", "/checkpoint"),
        ("[]", 422, "validation_failed", "/settings"),
        ("{", 400, "malformed_request", None),
    ],
)
def test_a_form_that_makes_no_job_leaves_no_files(
    settings: str, status: int, code: str, pointer: str | None, server: Server, api: httpx.Client
) -> None:
    before = server.objects
    form = {"checkpoint": ("m.safetensors", SAFETENSORS), "settings": (None, settings)}
    body = problem(api.post("/v1/jobs", files=form), status, code)
    assert [fault["pointer"] for fault in body["errors"]] == ([pointer] if pointer else [])
    assert server.objects == before


def test_a_form_needs_a_checkpoint_and_nothing_unknown(server: Server, api: httpx.Client) -> None:
    before = server.objects
    for form, pointer in (
        ({"settings": (None, "{}")}, "/checkpoint"),
        ({"checkpoint": ("m", SAFETENSORS), "weights": ("m", SAFETENSORS)}, "/weights"),
    ):
        body = problem(api.post("/v1/jobs", files=form), 422, "validation_failed")
        assert body["errors"][0]["pointer"] == pointer
    assert server.objects == before


@pytest.mark.parametrize(
    ("settings", "code", "pointer", "says"),
    [
        ({"architecture": "vgg"}, "unknown_architecture", "/architecture", "fc2, lenet5"),
        (
            {"architecture": "keras/resnet18"},
            "unknown_architecture",
            "/architecture",
            "torchvision, timm, transformers",
        ),
        ({"architecture": "timm/hf-hub:a/b"}, "unknown_architecture", "/architecture", "LIBRARY/NAME"),
        (
            {"architecture": "timm/resnet18", "architecture_config": {}},
            "validation_failed",
            "/architecture_config",
            "transformers/NAME alone",
        ),
        (
            {"architecture": "transformers/BertModel", "architecture_config": {"hidden_act": "x" * 70_000}},
            "validation_failed",
            "/architecture_config",
            "at most 65536 characters",
        ),
        ({"architecture": "fc2", "dataset": "cifar"}, "unknown_dataset", "/dataset", "digits"),
        ({"dataset": "digits"}, "validation_failed", "/dataset", "only with an architecture"),
        ({"exports": ["adtn", "onnx", "pt2"]}, "export_impossible", "/exports", "onnx, pt2: expected an architecture"),
        ({"compression": {"layers": ["fc9"]}}, "layer_not_found", "/compression/layers", "'fc9' matches no layer"),
        ({"compression": {"layers": ["tiny"]}}, "layer_not_eligible", "/compression/layers", "fewer than 64"),
        ({"compression": {"layers": [["fc1"]]}}, "group_invalid", "/compression/layers", "at least two layers"),
        ({"compression": {"layers": [["fc1", ""]]}}, "validation_failed", "/compression/layers/0/1", "at least 1"),
        ({"compression": {"layers": [3]}}, "validation_failed", "/compression/layers/0", "string"),
        (
            {"compression": {"layers": ["fc1"], "target": {"parameters": 3}}},
            "target_unreachable",
            "/compression/target",
            "smallest reachable",
        ),
        (
            {"compression": {"target": {"max_accuracy_drop": 1}}},
            "validation_failed",
            "/compression/target/max_accuracy_drop",
            "needs a data set",
        ),
        (
            {"compression": {"target": {"max_accuracy_drop": 1, "ratio": 5}}},
            "validation_failed",
            "/compression/target",
            "exactly one of parameters, ratio and max_accuracy_drop",
        ),
        (
            {"compression": {"target": {"max_accuracy_drop": -1}}},
            "validation_failed",
            "/compression/target/max_accuracy_drop",
            "greater than or equal to 0",
        ),
        *(
            ({"compression": {"gate_bits": bits}}, "validation_failed", "/compression/gate_bits", says)
            for bits, says in (
                (1, "greater than or equal to 2"),
                (9, "less than or equal to 8"),
                (4.5, "integer"),
                (True, "integer"),
                ("4", "integer"),
            )
        ),
        ({"search": {"max_trials": 0}}, "validation_failed", "/search/max_trials", "greater than or equal to 1"),
        (
            {
                "architecture": "lenet5",
                "dataset": "digits",
                "compression": {"target": {"max_accuracy_drop": 1}},
                "search": {"max_minutes": 1441},
            },
            "validation_failed",
            "/search/max_minutes",
            "at most 1080 minutes, three quarters of what a whole job may take here, got 1441",
        ),
        ({"search": {"max_hours": 1}}, "validation_failed", "/search/max_hours", "not permitted"),
        ({"compression": {"structure": "deep"}}, "validation_failed", "/compression/structure", "'auto'"),
        (
            {
                "architecture": "lenet5",
                "dataset": "digits",
                "compression": {"layers": ["conv9"], "target": {"max_accuracy_drop": 1}},
            },
            "layer_not_found",
            "/compression/layers",
            "'conv9' matches no layer",
        ),
        ({"colour": "red"}, "validation_failed", "/colour", "not permitted"),
        ({"seed": "7"}, "validation_failed", "/seed", "integer"),
        (
            {"compression": {"structure": {"depth": "deep"}}},
            "validation_failed",
            "/compression/structure/depth",
            "'auto'",
        ),
        ({"compression": {"layers": ["fc1", 3]}}, "validation_failed", "/compression/layers/1", "string"),
        ({"metadata": {"a/b": 1}}, "validation_failed", "/metadata/a~1b", "string"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    settings: dict[str, Any], code: str, pointer: str, says: str, checkpoint: str, api: httpx.Client
) -> None:
    for path in ("/v1/jobs", "/v1/jobs/estimate"):
        body = problem(api.post(path, json={"checkpoint": checkpoint} | settings), 422, code)
        assert body["errors"][0]["pointer"] == pointer
        assert says in body["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_request"),
        (b"{", 400, "malformed_request"),
        (b"\xff\xfe", 400, "malformed_request"),
        (b"[" * 100_000, 400, "malformed_request"),
        (b'{"seed": NaN}', 422, "validation_failed"),
        (b'{"fit": {"learning_rate": Infinity}}', 422, "validation_failed"),
        (b'{"seed": ' + b"9" * 4000 + b"}", 422, "validation_failed"),
        (b'{"seed": ' + b"9" * 5000 + b"}", 400, "malformed_request"),
        (b"null", 422, "validation_failed"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_that_is_no_settings_is_refused(body: bytes, status: int, code: str, api: httpx.Client) -> None:
    problem(api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"}), status, code)


def test_a_body_of_another_kind_is_refused(api: httpx.Client) -> None:
    problem(api.post("/v1/jobs", content=b"x", headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type")


def test_errors_never_repeat_what_was_sent(checkpoint: str, api: httpx.Client) -> None:
    secret = "s3cr3t" * 10
    answer = api.post("/v1/jobs", json={"checkpoint": checkpoint, "seed": secret, "fit": {"steps": secret}})
    problem(answer, 422, "validation_failed")
    assert "s3cr3t" not in answer.text


def test_a_job_needs_a_file_that_is_there(api: httpx.Client) -> None:
    problem(api.post("/v1/jobs", json={"checkpoint": "file_" + "0" * 32}), 404, "not_found")


def test_a_queued_job_says_what_it_waits_for(
    upload: Callable[..., str], worker: Worker, make_server: Callable[..., Server]
) -> None:
    own = make_server()
    stand_in = Worker(own)
    with httpx.Client(base_url=own.url) as api:
        file = api.post("/v1/files", params={"purpose": "checkpoint"}, content=SAFETENSORS).json()
        url = api.post("/v1/jobs", json={"checkpoint": file["id"]}).headers["location"]

        def message() -> str:
            return str(api.get(url).json()["progress"]["message"])

        assert message() == f"waiting for {file['id']} to be inspected: no worker that inspects files is running"
        stand_in.beat("files")
        assert message() == f"waiting for {file['id']} to be inspected"
        stand_in.inspect(file["id"])
        assert message() == NOBODY
        stand_in.beat("jobs")
        assert message() == "waiting for a worker"
    stand_in.db.close()


def test_a_running_job_shows_its_progress(job: dict[str, Any], worker: Worker, api: httpx.Client) -> None:
    lease = worker.take(job["id"])
    leases.progress(worker.db, lease, Progress("fit", 0.5, 0.2, 41.5, "fitting fc1, relative error 0.940"))
    found = api.get(f"/v1/jobs/{job['id']}").json()
    assert (found["status"], found["stage"], found["attempt"], found["queue_position"]) == ("running", "fit", 1, None)
    assert found["progress"] == {
        "fraction": 0.2,
        "stage": "fit",
        "stage_fraction": 0.5,
        "eta_seconds": 41.5,
        "message": "fitting fc1, relative error 0.940",
    }
    assert found["started_at"] is not None


def test_a_failed_job_shows_its_problem(job: dict[str, Any], worker: Worker, api: httpx.Client) -> None:
    leases.fail(worker.db, worker.take(job["id"]), ProblemError("training_diverged", "the loss is NaN"))
    found = api.get(f"/v1/jobs/{job['id']}").json()
    assert (found["status"], found["error"]["code"], found["error"]["detail"]) == (
        "failed",
        "training_diverged",
        "the loss is NaN",
    )
    assert found["finished_at"] is not None


def test_an_unchanged_job_is_not_sent_again(job: dict[str, Any], worker: Worker, api: httpx.Client) -> None:
    url = f"/v1/jobs/{job['id']}"
    etag = api.get(url).headers["etag"]
    again = api.get(url, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    worker.take(job["id"])
    changed = api.get(url, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["status"]) == (200, "running")


def test_a_long_poll_answers_when_the_stage_changes(job: dict[str, Any], worker: Worker, api: httpx.Client) -> None:
    lease = worker.take(job["id"])
    write = threading.Timer(0.5, leases.progress, (worker.db, lease, Progress("plan", 0, 0.05, None, "planning")))
    write.start()
    answer = api.get(f"/v1/jobs/{job['id']}", params={"wait": 30})
    write.join()
    assert answer.json()["stage"] == "plan"


def test_a_long_poll_ends_with_the_job_as_it_is(job: dict[str, Any], api: httpx.Client) -> None:
    assert api.get(f"/v1/jobs/{job['id']}", params={"wait": 0.3}).json()["status"] == "queued"
    api.post(f"/v1/jobs/{job['id']}/cancel")
    # The end of a job is known, so nothing is waited for.
    assert api.get(f"/v1/jobs/{job['id']}", params={"wait": 30}).json()["status"] == "cancelled"


@pytest.mark.parametrize("wait", ["31", "-1", "nan", "soon"])
def test_a_wait_out_of_bounds_is_refused(wait: str, job: dict[str, Any], api: httpx.Client) -> None:
    body = problem(api.get(f"/v1/jobs/{job['id']}", params={"wait": wait}), 422, "validation_failed")
    assert body["errors"][0]["pointer"] == "/wait"


def test_cancelling_is_idempotent_and_never_changes_an_ended_job(
    job: dict[str, Any], checkpoint: str, worker: Worker, api: httpx.Client, tmp_path: Path
) -> None:
    url = f"/v1/jobs/{job['id']}/cancel"
    assert [api.post(url).status_code for _ in range(2)] == [200, 200]
    assert api.get(f"/v1/jobs/{job['id']}").json()["status"] == "cancelled"

    running = api.post("/v1/jobs", json={"checkpoint": checkpoint}).json()
    lease = worker.take(running["id"])
    for _ in range(2):
        answer = api.post(f"/v1/jobs/{running['id']}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    leases.cancelled(worker.db, lease)
    assert api.post(f"/v1/jobs/{running['id']}/cancel").status_code == 200

    done = api.post("/v1/jobs", json={"checkpoint": checkpoint}).json()
    worker.succeed(worker.take(done["id"]), tmp_path, {"seed": 0})
    problem(api.post(f"/v1/jobs/{done['id']}/cancel"), 409, "job_finished")


def test_a_retry_is_a_new_job_with_the_same_settings(job: dict[str, Any], api: httpx.Client) -> None:
    url = f"/v1/jobs/{job['id']}/retry"
    problem(api.post(url), 409, "job_not_retryable")
    api.post(f"/v1/jobs/{job['id']}/cancel")
    answer = api.post(url, headers={"Idempotency-Key": job["id"]})
    again = api.post(url, headers={"Idempotency-Key": job["id"]})
    retried = answer.json()
    assert (answer.status_code, retried["status"], retried["retried_from"]) == (202, "queued", job["id"])
    assert retried["request"] == job["request"]
    assert retried["id"] != job["id"]
    assert again.json() == retried


def test_a_job_is_deleted_when_it_has_ended(
    job: dict[str, Any], worker: Worker, server: Server, api: httpx.Client, tmp_path: Path
) -> None:
    url = f"/v1/jobs/{job['id']}"
    problem(api.delete(url), 409, "job_not_finished")
    worker.succeed(worker.take(job["id"]), tmp_path, {"seed": 0}, **{"report.json": b"{}"})
    assert f"jobs/{job['id']}/1/report.json" in server.objects
    assert api.delete(url).status_code == 204
    problem(api.get(url), 404, "not_found")
    assert not [key for key in server.objects if job["id"] in key]


def test_jobs_are_listed_by_status_newest_first(checkpoint: str, api: httpx.Client) -> None:
    made = [api.post("/v1/jobs", json={"checkpoint": checkpoint}).json()["id"] for _ in range(3)]
    api.post(f"/v1/jobs/{made[1]}/cancel")
    page = api.get("/v1/jobs", params={"limit": 2, "status": "queued"}).json()
    assert (page["object"], [job["id"] for job in page["data"]], page["has_more"]) == ("list", [made[2], made[0]], True)
    assert [job["id"] for job in api.get("/v1/jobs", params={"limit": 1, "after": made[2]}).json()["data"]] == [made[1]]
    assert problem(api.get("/v1/jobs", params={"status": "lost"}), 422, "validation_failed")["errors"][0][
        "pointer"
    ] == ("/status")
    assert (
        problem(api.get("/v1/jobs", params={"limit": 0}), 422, "validation_failed")["errors"][0]["pointer"] == "/limit"
    )


def test_an_estimate_says_what_the_plan_comes_to_and_starts_nothing(checkpoint: str, api: httpx.Client) -> None:
    before = api.get("/v1/jobs", params={"limit": 1}).json()["data"]
    settings = {
        "checkpoint": checkpoint,
        "architecture": "lenet5",
        "dataset": "digits",
        "compression": {"layers": ["conv2", "fc1", "fc2"], "target": {"parameters": 1300}},
    }
    answer = api.post("/v1/jobs/estimate", json=settings)
    assert answer.status_code == 200, answer.text
    estimate = answer.json()
    assert [layer["name"] for layer in estimate["layers"]] == ["conv2", "fc1", "fc2"]
    assert estimate["parameters"]["original"] == 2400 + 48000 + 10080
    assert estimate["parameters"]["compressed"] == sum(layer["compressed"] for layer in estimate["layers"]) <= 1300
    assert estimate["bytes"]["original"] == 4 * 60480
    assert estimate["seconds"] > 0
    assert estimate["rough"] == ["layers", "parameters", "bytes", "fine_tuning", "seconds", "memory_bytes"]
    assert "measures" in estimate["notes"][0]
    assert api.get("/v1/jobs", params={"limit": 1}).json()["data"] == before


def test_an_estimate_counts_the_images_in_the_size_that_the_job_gives_them(
    checkpoint: str, upload: Callable[..., str], worker: Worker, api: httpx.Client
) -> None:
    dataset = upload(purpose="dataset", content=b"PK\x03\x04" + b" " * 600)
    worker.inspect(dataset, splits={"train": 800, "test": 200}, shape=[1, None, None])

    def estimate(side: int, epochs: int, **more: int) -> dict[str, Any]:
        body = {
            **{"checkpoint": checkpoint, "architecture": "lenet5", "dataset": dataset},
            **{"image": {"resize": [side, side]}, "fine_tune": {"epochs": epochs, "batch_size": 64, **more}},
        }
        answer = api.post("/v1/jobs/estimate", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    samples = 4 * 1000 * (64**2 - 32**2)
    # Twice: a second process reads them, to verify the artifacts, while the first still holds them.
    assert estimate(64, 0)["memory_bytes"] - estimate(32, 0)["memory_bytes"] == 2 * samples
    assert estimate(64, 1000)["seconds"] > 2 * estimate(32, 1000)["seconds"]
    # A training step holds the outputs of 800 samples, or of half or a quarter of them if it is cut.
    whole, half, quarter = (estimate(64, 1, batch_size=800, accumulate=parts)["memory_bytes"] for parts in (1, 2, 4))
    assert whole - half == 2 * (half - quarter) > 0


def test_an_estimate_knows_that_each_size_of_a_layer_is_measured_with_the_whole_network(
    checkpoint: str, upload: Callable[..., str], worker: Worker, api: httpx.Client
) -> None:
    dataset = upload(purpose="dataset", content=b"PK\x03\x04" + b" " * 600)
    worker.inspect(dataset, splits={"train": 60_000, "test": 10_000}, shape=[1, None, None])

    def seconds(side: int, **search: float) -> float:
        body = {
            **{"checkpoint": checkpoint, "architecture": "lenet5", "dataset": dataset, "search": search},
            **{"image": {"resize": [side, side]}, "fine_tune": {"epochs": 0}},
            "compression": {"layers": ["conv2", "fc1", "fc2"], "target": {"ratio": 60}},
        }
        return float(api.post("/v1/jobs/estimate", json=body).json()["seconds"])

    assert seconds(224) > seconds(28) + 3
    assert seconds(224, max_minutes=0.01) < seconds(224) - 3  # measuring ends with half of the search's minutes


def test_an_estimate_of_structures_that_the_user_chose_has_exact_sizes(checkpoint: str, api: httpx.Client) -> None:
    chosen = {"layers": ["fc1", "fc2"], "structure": {"depth": 3}, "target": {"ratio": 20}}
    estimate = api.post("/v1/jobs/estimate", json={"checkpoint": checkpoint, "compression": chosen}).json()
    assert (estimate["rough"], estimate["notes"], estimate["search"]) == (["seconds", "memory_bytes"], [], None)
    assert estimate["parameters"]["ratio"] >= 20


def test_a_single_layer_has_nothing_to_share_and_is_not_measured(checkpoint: str, api: httpx.Client) -> None:
    chosen = {"layers": ["fc1"], "target": {"ratio": 20}}
    estimate = api.post("/v1/jobs/estimate", json={"checkpoint": checkpoint, "compression": chosen}).json()
    assert (estimate["rough"], estimate["notes"]) == (["seconds", "memory_bytes"], [])


def test_no_request_waits_for_the_plan_of_very_many_shapes(
    upload: Callable[..., str], worker: Worker, api: httpx.Client
) -> None:
    checkpoint = upload()
    worker.inspect(checkpoint, [layer(f"fc{i}", 64, 64 + i) for i in range(300)])
    for layers, most in (("auto", False), (["fc*"], False), (["fc1", "fc2"], True)):
        wish = {"checkpoint": checkpoint, "compression": {"layers": layers, "target": {"ratio": 10}}}
        estimate = api.post("/v1/jobs/estimate", json=wish)
        if most:
            assert estimate.status_code == 200, estimate.text
        else:
            problem(estimate, 422, "resource_limit")
        assert api.post("/v1/jobs", json=wish).status_code == 202
    chosen = {"structure": {"depth": 2}, "target": {"ratio": 10}}
    assert api.post("/v1/jobs/estimate", json={"checkpoint": checkpoint, "compression": chosen}).status_code == 200
    worker.inspect(larger := upload(), [layer(f"fc{i}", 64, 64 + i) for i in range(2100)])
    wish = {"checkpoint": larger, "compression": chosen}
    problem(api.post("/v1/jobs/estimate", json=wish), 422, "resource_limit")
    assert api.post("/v1/jobs", json=wish).status_code == 202


def test_an_estimate_says_where_a_job_would_not_end_in_time(
    checkpoint: str, upload: Callable[..., str], worker: Worker, api: httpx.Client
) -> None:
    dataset = upload(purpose="dataset", content=b"PK\x03\x04" + b" " * 600)
    worker.inspect(dataset, splits={"train": 60_000, "test": 10_000}, shape=[1, None, None])

    def notes(epochs: int) -> list[str]:
        chosen = {"layers": ["fc1"], "structure": {"depth": 2}}
        settings = {"checkpoint": checkpoint, "architecture": "lenet5", "dataset": dataset, "compression": chosen}
        body = {**settings, "fine_tune": {"epochs": epochs, "batch_size": 1}, "image": {"resize": [1024, 1024]}}
        found: list[str] = api.post("/v1/jobs/estimate", json=body).json()["notes"]
        return found

    assert not any("a job may take" in note for note in notes(1))
    assert any("a job may take 24 hours here" in note for note in notes(1000))


def test_an_estimate_for_an_accuracy_gives_the_sizes_that_will_be_tried(checkpoint: str, api: httpx.Client) -> None:
    def estimate(**search: float) -> dict[str, Any]:
        settings = {
            "checkpoint": checkpoint,
            "architecture": "lenet5",
            "dataset": "digits",
            "compression": {"target": {"max_accuracy_drop": 1}},
            "fine_tune": {"epochs": 100},
            "search": search,
        }
        answer = api.post("/v1/jobs/estimate", json=settings)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    found = estimate(max_trials=4)
    search = found["search"]
    assert search["trials"] == 4
    assert search["max_seconds"] == 1800
    assert (
        0 < search["smallest"]["compressed"] < search["largest"]["compressed"] < search["largest"]["original"] == 61706
    )
    assert "not known before the job" in found["notes"][0]
    assert {"layers", "parameters", "bytes"} <= set(found["rough"])
    assert found["seconds"] > 4 * search["seconds_a_trial"]
    assert estimate(max_trials=1)["seconds"] < found["seconds"]
    hopeless = estimate(max_trials=4, max_minutes=1e-3)
    assert hopeless["seconds"] < found["seconds"]
    assert "without an answer" in hopeless["notes"][1]
    assert not any("without an answer" in note for note in found["notes"])


def test_an_estimate_of_gates_in_few_bits_is_an_upper_bound_in_bytes_and_says_so(
    checkpoint: str, api: httpx.Client
) -> None:
    def estimate(gate_bits: int | None) -> dict[str, Any]:
        compression = {"layers": ["fc1", "fc2"], "structure": {"depth": 2}, "gate_bits": gate_bits}
        answer = api.post("/v1/jobs/estimate", json={"checkpoint": checkpoint, "compression": compression})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    floats, four = estimate(None), estimate(4)
    assert four["parameters"] == floats["parameters"]
    numbers = four["parameters"]["compressed"]
    assert floats["bytes"]["compressed"] == 4 * numbers
    assert numbers / 2 < four["bytes"]["compressed"] <= numbers / 2 + 4 * len(four["layers"])
    assert four["bytes"]["compressed"] == sum(layer["compressed_bytes"] for layer in four["layers"])
    assert "upper bound" in four["notes"][-1]
    assert (floats["rough"], four["rough"]) == (["seconds", "memory_bytes"], ["bytes", "seconds", "memory_bytes"])
    assert not any("upper bound" in note for note in floats["notes"])


def test_an_estimate_says_what_is_trained_and_what_is_computed_once(checkpoint: str, api: httpx.Client) -> None:
    def estimate(fine_tune: dict[str, Any], layers: Sequence[str] = ("fc1", "fc2"), **more: Any) -> dict[str, Any]:
        body = {
            **{"checkpoint": checkpoint, "architecture": "lenet5", "dataset": "digits", "fine_tune": fine_tune},
            "compression": {"layers": layers, "structure": {"depth": 2}},
        }
        answer = api.post("/v1/jobs/estimate", json=body | more)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    whole, gates = estimate({}), estimate({"dense": "freeze"})
    numbers = gates["parameters"]["compressed"]
    assert gates["fine_tuning"] == {
        "trained_parameters": numbers,
        "kept_layers": ["conv1", "conv2"],
        "cached_bytes": 1437 * 400 * 4,  # samples of the digits, inputs of fc1
    }
    assert "assumed to fit the worker's disk" in gates["notes"][-1]
    assert whole["fine_tuning"] == {
        "trained_parameters": numbers + 61706 - 48000 - 10080,
        "kept_layers": [],
        "cached_bytes": 0,
    }
    assert (whole["notes"], gates["seconds"] <= whole["seconds"]) == ([], True)
    # No gradient, no moments of Adam and no tensor of its step for what is frozen.
    frozen = whole["fine_tuning"]["trained_parameters"] - gates["fine_tuning"]["trained_parameters"]
    assert whole["memory_bytes"] - gates["memory_bytes"] == 4 * 4 * frozen
    along = estimate({"dense": "freeze", "epochs": 2, "natural_epochs": 1})
    assert along["memory_bytes"] - gates["memory_bytes"] == 4 * 4 * numbers**2
    assert not any("natural_epochs" in note for note in along["notes"])
    many = estimate({"epochs": 2, "natural_epochs": 1}, ["fc2"])  # fc1 stays dense, and is trained
    assert "natural_epochs: at most 8,192 numbers can be trained so, here" in many["notes"][-1]
    assert f"{many['fine_tuning']['trained_parameters']:,}: the job would be refused" in many["notes"][-1]

    convolution = estimate({"dense": "freeze"}, ["conv2"])["fine_tuning"]
    assert (convolution["kept_layers"], convolution["cached_bytes"]) == (["conv1"], None)
    augmented = estimate({"dense": "freeze"}, augment={"flip": True})
    assert (augmented["fine_tuning"]["kept_layers"], augmented["fine_tuning"]["cached_bytes"]) == ([], 0)
    assert "no layer is computed once" in augmented["notes"][-1]
    assert estimate({"epochs": 0})["fine_tuning"] is None
    assert estimate({}, architecture=None, dataset=None)["fine_tuning"] is None


def test_an_estimate_grows_with_the_work(checkpoint: str, api: httpx.Client) -> None:
    def seconds(**settings: Any) -> float:
        body = {"checkpoint": checkpoint, "architecture": "lenet5", "dataset": "digits"} | settings
        return float(api.post("/v1/jobs/estimate", json=body).json()["seconds"])

    assert seconds(fit={"steps": 10_000}) > seconds(fit={"steps": 100})
    assert seconds(fine_tune={"epochs": 1000}) > seconds(fine_tune={"epochs": 1})


def test_an_estimate_comes_after_the_inspection(upload: Callable[..., str], api: httpx.Client) -> None:
    answer = api.post("/v1/jobs/estimate", json={"checkpoint": upload()})
    problem(answer, 409, "file_not_ready")
    assert "retry-after" in answer.headers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted(JobSettings.model_fields)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4) | JSON)
def test_no_json_makes_an_error_of_the_server(body: Any, api: httpx.Client) -> None:
    content = json.dumps(body).encode()
    for path in ("/v1/jobs", "/v1/jobs/estimate"):
        answer = api.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), answer.text
        problem(answer, answer.status_code, answer.json()["code"])


def test_others_are_answered_while_plans_are_made(
    upload: Callable[..., str], worker: Worker, api: httpx.Client
) -> None:
    large = upload()
    worker.inspect(large, [layer(f"l{i}", 16, 16) for i in range(3000)])
    wish = {"checkpoint": large, "compression": {"layers": ["*"], "structure": {}, "target": {"ratio": 1.01}}}
    with ThreadPoolExecutor(60) as pool, ThreadPoolExecutor(3) as others:
        # All by one client: to set sixty up takes longer than many of the answers.
        estimates = [pool.submit(api.post, "/v1/jobs/estimate", json=wish, timeout=600) for _ in range(60)]
        while not any(each.done() for each in estimates):  # so all have arrived
            time.sleep(0.05)
        assert {each.status_code for each in others.map(api.get, ("/livez", "/v1/jobs", "/readyz"))} == {200}
        answered = sum(each.done() for each in estimates)
        assert {each.result().status_code for each in estimates} == {200}
    assert answered < 20, "else they waited for a thread of those that plan"


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([f"l{i}*" for i in range(101)], "at most 100 glob patterns, those in groups too, got 101"),
        ([["a"] * 999] * 11, "at most 10,000 names, those in groups too, got 10,989"),
    ],
)
def test_names_that_take_long_to_look_up_are_refused_but_stored_jobs_with_them_are_shown(
    layers: list[Any], says: str, checkpoint: str, api: httpx.Client, worker: Worker
) -> None:
    wish = {"checkpoint": checkpoint, "compression": {"layers": layers}}
    for path in ("/v1/jobs", "/v1/jobs/estimate"):
        body = problem(api.post(path, json=wish), 422, "validation_failed")
        assert says in body["detail"]
        assert [fault["pointer"] for fault in body["errors"]] == ["/compression/layers"]
    with worker.db.begin() as session:  # of before there were limits
        row = records.create(session, owner="local", settings=JobSettings.model_validate(wish), max_attempts=3)
    assert api.get(f"/v1/jobs/{row.id}").json()["request"]["compression"]["layers"] == layers

"""API keys: who may call, and whose objects are seen."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from service_support import SAFETENSORS, Server, problem

FILES = {"purpose": "checkpoint"}


def keys(data_dir: Path, *arguments: str) -> str:
    """Run the admin command."""
    done = subprocess.run(
        [sys.executable, "-m", "service.keys", *arguments],
        env=os.environ | {"ADTN_DATA_DIR": str(data_dir)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def guarded(make_server: Callable[..., Server]) -> Server:
    return make_server(ADTN_REQUIRE_KEYS="true")


@pytest.fixture
def client(guarded: Server) -> Iterator[Callable[[str], httpx.Client]]:
    """Makes clients with a key for an owner."""
    made: list[httpx.Client] = []

    def make(owner: str) -> httpx.Client:
        key = keys(guarded.data_dir, "create", "--owner", owner)
        made.append(httpx.Client(base_url=guarded.url, headers={"Authorization": f"Bearer {key}"}))
        return made[-1]

    yield make
    for api in made:
        api.close()


def test_without_a_key_only_the_probes_answer(guarded: Server) -> None:
    with httpx.Client(base_url=guarded.url) as api:
        for method, path in (
            ("GET", "/v1/files"),
            ("POST", "/v1/files?purpose=checkpoint"),
            ("GET", "/v1/jobs"),
            ("GET", "/v1/jobs?limt=1"),
            ("POST", "/v1/jobs"),
            ("POST", "/v1/jobs/estimate"),
            ("GET", "/v1/architectures"),
        ):
            for headers in ({}, {"Authorization": "Bearer adtn_wrong"}, {"Authorization": "Basic YTpi"}):
                answer = api.request(method, path, headers=headers)
                problem(answer, 401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
        assert guarded.objects == []
        for path in ("/livez", "/readyz", "/version", "/metrics", "/docs"):
            assert api.get(path).status_code == 200


def test_what_belongs_to_another_owner_is_not_there(guarded: Server, client: Callable[[str], httpx.Client]) -> None:
    alice, bob = client("alice"), client("bob")
    file = alice.post("/v1/files", params=FILES, content=SAFETENSORS).json()["id"]
    job = alice.post("/v1/jobs", json={"checkpoint": file}).json()["id"]
    for method, path in (
        ("GET", f"/v1/files/{file}"),
        ("GET", f"/v1/files/{file}/content"),
        ("GET", f"/v1/files/{file}/layers"),
        ("DELETE", f"/v1/files/{file}"),
        ("GET", f"/v1/jobs/{job}"),
        ("GET", f"/v1/jobs/{job}/events"),
        ("GET", f"/v1/jobs/{job}/report"),
        ("GET", f"/v1/jobs/{job}/artifacts"),
        ("GET", f"/v1/jobs/{job}/artifacts/report.json"),
        ("POST", f"/v1/jobs/{job}/cancel"),
        ("POST", f"/v1/jobs/{job}/retry"),
        ("DELETE", f"/v1/jobs/{job}"),
    ):
        problem(bob.request(method, path), 404, "not_found")
    problem(bob.post("/v1/jobs", json={"checkpoint": file}), 404, "not_found")
    assert bob.get("/v1/files").json()["data"] == bob.get("/v1/jobs").json()["data"] == []
    problem(bob.get("/v1/jobs", params={"after": job}), 422, "validation_failed")
    assert alice.get(f"/v1/jobs/{job}").json()["status"] == "queued"


def test_a_revoked_key_opens_nothing(guarded: Server) -> None:
    key = keys(guarded.data_dir, "create", "--owner", "alice", "--name", "laptop")
    with httpx.Client(base_url=guarded.url, headers={"Authorization": f"Bearer {key}"}) as api:
        assert api.get("/v1/jobs").status_code == 200
        listed = keys(guarded.data_dir, "list").split("\t")
        assert listed[1:3] == ["alice", "laptop"]
        assert key not in listed
        assert keys(guarded.data_dir, "revoke", listed[0]) == f"{listed[0]} is revoked"
        problem(api.get("/v1/jobs"), 401, "unauthorized")
    assert "revoked" in keys(guarded.data_dir, "list")


def test_a_server_that_others_can_reach_does_not_start_without_keys(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        env=os.environ | {"ADTN_HOST": "0.0.0.0", "ADTN_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ADTN_REQUIRE_KEYS must be true" in done.stderr
    assert "Traceback" not in done.stderr

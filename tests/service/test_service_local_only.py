"""A service without keys answers programs on this machine, and no page of another site."""

from collections.abc import Callable

import httpx
import pytest
from service_support import SAFETENSORS, Server, problem

FILE = {"purpose": "checkpoint"}


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]", "adtn.localhost", "localhost."]
)
def test_names_of_this_machine_are_answered(name: str, api: httpx.Client) -> None:
    for host in (name, f"{name}:8000"):
        assert api.get("/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.5", "[::1"])
def test_a_name_that_is_made_to_lead_here_is_not(name: str, api: httpx.Client) -> None:
    problem(api.get("/v1/jobs", headers={"Host": name}), 403, "forbidden")


def test_a_program_that_tells_no_name_is_answered(api: httpx.Client) -> None:
    assert api.get("/livez", headers={"Host": ""}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1.evil.example", "null"])
def test_a_page_of_another_site_changes_nothing(origin: str, api: httpx.Client) -> None:
    before = api.get("/v1/files").json()
    problem(api.post("/v1/files", params=FILE, content=SAFETENSORS, headers={"Origin": origin}), 403, "forbidden")
    assert api.get("/v1/files").json() == before


def test_a_page_of_this_machine_may(api: httpx.Client) -> None:
    for origin in ("http://localhost:3000", str(api.base_url)):
        answer = api.post("/v1/files", params=FILE, content=SAFETENSORS, headers={"Origin": origin})
        assert answer.status_code == 201


def test_with_keys_the_key_decides(make_server: Callable[..., Server]) -> None:
    server = make_server(ADTN_REQUIRE_KEYS="true")
    answer = httpx.get(f"{server.url}/v1/jobs", headers={"Host": "adtn.example"})
    problem(answer, 401, "unauthorized")

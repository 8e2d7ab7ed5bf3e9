"""What the client sends, what it sends again, and which exceptions answers become."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from scripted_server import NO_PAUSE, Answer, ScriptedServer, a_file, a_job, json_answer, problem_answer

import adtn_client
from adtn_client import Client, ConnectionFailed, LocalError, ProblemError, Retry, UnexpectedAnswer
from jobs.problems import Fault


def test_unavailable_server_is_asked_again_after_the_time_it_names(client: Client, server: ScriptedServer) -> None:
    server.script += [problem_answer(503, "queue_unavailable", "Redis is away"), json_answer(a_job())]
    assert client.jobs.get("job_1").id == "job_1"
    assert [request.path for request in server.requests] == ["/v1/jobs/job_1"] * 2


def test_server_that_stays_unavailable_is_asked_a_bounded_number_of_times(
    client: Client, server: ScriptedServer
) -> None:
    server.script.append(problem_answer(503, "queue_unavailable", "Redis is away"))
    with pytest.raises(ProblemError, match="Redis is away"):
        client.jobs.get("job_1")
    assert len(server.requests) == NO_PAUSE.attempts


def test_broken_connection_repeats_the_job_with_the_same_key(client: Client, server: ScriptedServer) -> None:
    server.script += [Answer(cut_after=-1), json_answer(a_job(), 202)]
    client.jobs.create({"checkpoint": "file_1"})
    keys = [request.headers["Idempotency-Key"] for request in server.requests]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_job_whose_first_request_is_still_in_flight_is_asked_for_again(client: Client, server: ScriptedServer) -> None:
    server.script += [
        Answer(cut_after=-1),
        problem_answer(409, "idempotency_in_flight", "the first is still in flight"),
        json_answer(a_job(), 202),
    ]
    assert client.jobs.create({"checkpoint": "file_1"}).id == "job_1"


def test_conflict_that_will_not_pass_is_not_asked_for_again(client: Client, server: ScriptedServer) -> None:
    server.script.append(problem_answer(409, "job_finished", "it has already finished"))
    with pytest.raises(ProblemError):
        client.jobs.cancel("job_1")
    assert len(server.requests) == 1


def test_two_jobs_have_different_keys(client: Client, server: ScriptedServer) -> None:
    server.script.append(json_answer(a_job(), 202))
    client.jobs.create({"checkpoint": "file_1"})
    client.jobs.create({"checkpoint": "file_1"})
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 2


@pytest.mark.parametrize("answer", [Answer(cut_after=-1), problem_answer(503, "queue_unavailable", "later")])
def test_call_that_is_not_safe_to_repeat_is_sent_once(
    client: Client, server: ScriptedServer, answer: Answer, tmp_path: Path
) -> None:
    (tmp_path / "m.pt").write_bytes(b"weights")
    server.script.append(answer)
    with pytest.raises((ConnectionFailed, ProblemError)):
        client.files.upload(tmp_path / "m.pt", "checkpoint")
    assert len(server.requests) == 1


def test_problem_keeps_its_code_faults_and_request_id(client: Client, server: ScriptedServer) -> None:
    fault = {"pointer": "/compression/layers/0", "detail": "no layer is called fc9", "code": "layer_not_found"}
    server.script.append(
        problem_answer(422, "layer_not_found", "a layer is missing", errors=[fault], request_id="req_7")
    )
    with pytest.raises(ProblemError) as caught:
        client.jobs.estimate({"checkpoint": "file_1"})
    problem = caught.value
    assert (problem.status, problem.code, problem.request_id) == (422, "layer_not_found", "req_7")
    assert problem.errors == (Fault(**fault),)
    assert str(problem) == ("a layer is missing; /compression/layers/0: no layer is called fc9 (layer_not_found)")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, b"<html>not here</html>", {"Content-Type": "text/html"}),
        Answer(500, b"{", {"Content-Type": "application/problem+json"}),
        Answer(500, b"[]", {"Content-Type": "application/problem+json"}),
        json_answer({"hello": "world"}),
        Answer(200, b"<html>welcome</html>", {"Content-Type": "text/html"}),
        Answer(302, b"", {"Location": "http://elsewhere.invalid/"}),
    ],
)
def test_answer_of_another_program_is_named_as_such(client: Client, server: ScriptedServer, answer: Answer) -> None:
    server.script.append(answer)
    with pytest.raises(UnexpectedAnswer):
        client.jobs.get("job_1")


def test_missing_server_is_named() -> None:
    with (
        Client("http://127.0.0.1:1", retry=NO_PAUSE) as client,
        pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1"),
    ):
        client.jobs.get("job_1")


@pytest.mark.parametrize("url", ["localhost:8000", "", "ftp://host", "http://[::1"])
def test_wrong_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(LocalError):
        Client(url)


def test_key_is_sent_but_never_shown(server: ScriptedServer) -> None:
    server.script.append(json_answer(a_job()))
    with Client(server.url, "adtn_secret") as client:
        client.jobs.get("job_1")
        assert server.requests[0].headers["Authorization"] == "Bearer adtn_secret"
        assert "secret" not in repr(client)


def test_list_goes_on_after_the_last_object_of_each_page(client: Client, server: ScriptedServer) -> None:
    pages = [([a_file(id="file_3"), a_file(id="file_2")], True), ([a_file(id="file_1")], False)]
    server.script += [json_answer({"object": "list", "data": data, "has_more": more}) for data, more in pages]
    assert [file.id for file in client.files.list()] == ["file_3", "file_2", "file_1"]
    assert "after=file_2" in server.requests[1].path


def test_what_a_list_hands_out_may_be_deleted_at_once(client: Client, server: ScriptedServer) -> None:
    pages = [([a_file(id="file_2")], True), ([a_file(id="file_1")], False)]
    server.script += [json_answer({"object": "list", "data": data, "has_more": more}) for data, more in pages]
    for file in client.files.list():
        assert len(server.requests) == 2, f"{file.id} is the cursor of the next page"


def test_fields_of_a_later_version_are_passed_over(client: Client, server: ScriptedServer) -> None:
    later = a_job()
    later["request"] |= {"setting_of_tomorrow": None}
    server.script.append(json_answer(later))
    assert client.jobs.get("job_1").id == "job_1"


def test_waiting_ends_with_the_job_and_raises_if_it_failed(client: Client, server: ScriptedServer) -> None:
    problem = {"type": "t", "title": "t", "status": 422, "code": "non_finite_values", "detail": "fc1 holds NaN"}
    failed = a_job(status="failed", error=problem, finished_at="2026-01-31T12:00:01Z")
    server.script += [json_answer(a_job()), json_answer(a_job(status="running")), json_answer(failed)]
    with pytest.raises(adtn_client.JobNotSucceeded, match=r"fc1 holds NaN \(non_finite_values\)"):
        client.jobs.wait("job_1")
    assert len(server.requests) == 3


def test_a_search_in_vain_tells_its_trials_and_nothing_twice(client: Client, server: ScriptedServer) -> None:
    pointer = "/compression/target/max_accuracy_drop"
    faults = [
        {"pointer": pointer, "detail": "too low", "code": "accuracy_not_kept"},
        {"pointer": pointer, "detail": "trial of 900 numbers", "code": "trial"},
    ]
    problem = {"type": "t", "title": "t", "status": 422, "code": "accuracy_not_kept", "detail": "too low"}
    failed = a_job(status="failed", error={**problem, "errors": faults}, finished_at="2026-01-31T12:00:01Z")
    server.script.append(json_answer(failed))
    with pytest.raises(adtn_client.JobNotSucceeded) as raised:
        client.jobs.wait("job_1")
    assert str(raised.value).endswith(f": too low; {pointer}: trial of 900 numbers (accuracy_not_kept)")
    assert [fault.code for fault in raised.value.errors] == ["accuracy_not_kept", "trial"]


def test_waiting_for_a_job_has_a_limit(client: Client, server: ScriptedServer) -> None:
    server.script.append(json_answer(a_job(status="running")))
    with pytest.raises(adtn_client.WaitTimeout, match="it is running"):
        client.jobs.wait("job_1", timeout_s=0.0)


def answer_with(retry_after: str) -> httpx.Response:
    return httpx.Response(503, headers={"Retry-After": retry_after})


def test_pause_follows_the_server_but_not_beyond_the_longest() -> None:
    retry = Retry(first_pause_s=1, longest_pause_s=20)
    in_ten = format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)
    assert retry.pause_s(1, answer_with("7")) == 7
    assert 8 < retry.pause_s(1, answer_with(in_ten)) <= 10
    assert retry.pause_s(1, answer_with("86400")) == 20
    assert retry.pause_s(1, answer_with("Thu, 01 Jan 1970 00:00:00 GMT")) == 0


@pytest.mark.parametrize("retry_after", ["", "soon", "-1", "1e9", "Thu, 01 Jan 1970 00:00:00"])
def test_pause_without_a_usable_wish_doubles_up_to_the_longest(retry_after: str) -> None:
    retry = Retry(first_pause_s=1, longest_pause_s=5)
    for attempt, most in enumerate([1, 2, 4, 5, 5], start=1):
        assert most / 2 <= retry.pause_s(attempt, answer_with(retry_after)) <= most


def test_public_names_are_complete_and_sorted() -> None:
    public = {name for name, value in vars(adtn_client).items() if isinstance(value, type)}
    assert adtn_client.__all__ == sorted(public)

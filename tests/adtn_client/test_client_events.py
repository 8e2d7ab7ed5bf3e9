"""The stream of a job's events: each comes once, whatever happens to the connection."""

import json

import pytest
from scripted_server import Answer, ScriptedServer, problem_answer

from adtn_client import Client, ConnectionFailed, ProblemError, UnexpectedAnswer, patience


def event_text(sequence: int, type: str) -> str:
    data = {"id": f"evt_{sequence}", "object": "event", "sequence": sequence, "type": type}
    more = {"created_at": "2026-01-31T12:00:00Z", "data": {"stage": "fit"}}
    return f"id: {sequence}\nevent: {type}\ndata: {json.dumps({**data, **more})}\n\n"


def stream(*texts: str, cut_after: int | None = None) -> Answer:
    return Answer(200, "".join(texts).encode(), {"Content-Type": "text/event-stream"}, cut_after)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSE_S", 0.0)


def test_broken_stream_is_taken_up_after_the_last_event(client: Client, server: ScriptedServer) -> None:
    first, second, third = event_text(1, "job.queued"), event_text(2, "job.stage"), event_text(3, "job.succeeded")
    server.script += [
        stream(first, second, third, cut_after=len(first) + 10),
        Answer(cut_after=-1),
        problem_answer(503, "queue_unavailable", "restarting"),
        stream(": ping\n\n", second),
        stream(third),
    ]
    assert [event.type for event in client.jobs.stream("job_1")] == ["job.queued", "job.stage", "job.succeeded"]
    assert [request.headers.get("Last-Event-ID") for request in server.requests] == [None, "1", "1", "1", "2"]


def test_stream_starts_after_a_given_event(client: Client, server: ScriptedServer) -> None:
    server.script.append(stream(event_text(8, "job.cancelled")))
    assert [event.sequence for event in client.jobs.stream("job_1", last_event_id="7")] == [8]
    assert server.requests[0].headers["Last-Event-ID"] == "7"


def test_stream_of_a_job_that_has_told_all_ends(client: Client, server: ScriptedServer) -> None:
    server.script.append(Answer(204))
    assert list(client.jobs.stream("job_1", last_event_id="9")) == []
    assert len(server.requests) == 1


def test_refused_stream_is_not_asked_for_again(client: Client, server: ScriptedServer) -> None:
    server.script.append(problem_answer(404, "not_found", "there is no such job"))
    with pytest.raises(ProblemError, match="no such job"):
        list(client.jobs.stream("job_1"))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"{}", {"Content-Type": "application/json"}),
        stream("id: 1\ndata: not json\n\n"),
        stream("data: {}\n\n"),
    ],
)
def test_what_is_no_stream_of_events_is_named_as_such(client: Client, server: ScriptedServer, answer: Answer) -> None:
    server.script.append(answer)
    with pytest.raises(UnexpectedAnswer):
        list(client.jobs.stream("job_1"))


def test_server_that_stays_away_ends_the_stream(
    client: Client, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "AWAY_S", 0.0)
    server.script += [stream(event_text(1, "job.queued")), stream("")]
    stream_of_events = client.jobs.stream("job_1")
    assert next(stream_of_events).sequence == 1
    with pytest.raises(ConnectionFailed, match="before the job has ended"):
        next(stream_of_events)

"""Sending requests: addresses, the key, retries, and errors as exceptions. Everything else goes through here."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from adtn_client.errors import ConnectionFailed, UnexpectedAnswer
from adtn_client.problems import error_of
from adtn_client.retries import Retry, worth_retrying
from jobs.schemas.common import Page

PAGE_SIZE = 100

Item = TypeVar("Item", bound=BaseModel)
Answer = TypeVar("Answer", bound=BaseModel)
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE"})


class Transport:
    """One connection pool to one server.

    Args:
        base_url: Where the server is, such as `http://127.0.0.1:8000`.
        api_key: Sent as a bearer token; None sends none.
        timeout_s: Seconds that connecting, and each wait for bytes, may take.
        retry: When to try again.
        http_transport: Sends the requests in place of the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        timeout_s: float,
        retry: Retry,
        http_transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self.retry = retry
        headers = {"Accept": "application/json", "User-Agent": "adtn-client"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._http = httpx.Client(
            base_url=self.base_url, headers=headers, timeout=timeout_s, transport=http_transport, follow_redirects=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        idempotent: bool = False,
    ) -> httpx.Response:
        """Send a request, again if that is safe and may help, and return the successful answer with its body.

        Args:
            method: GET, POST, ...
            path: Below the base URL.
            json: The body.
            params: The query.
            headers: Beside those of every request.
            wait_s: Seconds that the server was asked to wait before it answers.
            idempotent: Sending the request twice does the same as sending it once, although its method is POST.

        Raises:
            ConnectionFailed: No answer came.
            ProblemError: The server refused.
            UnexpectedAnswer: The answer is not of this API.
        """
        request = self._http.build_request(
            method, path, json=json, params=params, headers=headers, timeout=self.timeout_s + wait_s
        )
        answer = self._send(request, idempotent or method in IDEMPOTENT_METHODS, stream=False)
        if not answer.is_success and answer.status_code != httpx.codes.NOT_MODIFIED:
            raise error_of(answer)
        return answer

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str], params: Mapping[str, str | int] | None = None
    ) -> Iterator[httpx.Response]:
        """GET an answer whose body is read in pieces. Only the start is tried again, not a body that breaks off.

        Raises:
            ConnectionFailed: No answer came.
            ProblemError: The server refused.
            UnexpectedAnswer: The answer is not of this API.
        """
        request = self._http.build_request("GET", path, headers=headers, params=params)
        answer = self._send(request, idempotent=True, stream=True)
        try:
            if not answer.is_success:
                answer.read()
                raise error_of(answer)
            yield answer
        finally:
            answer.close()

    def pages(
        self, path: str, page_type: type[Page[Item]], params: Mapping[str, str | int] | None = None
    ) -> Iterator[Item]:
        """Every object of a list, fetched page by page as they are asked for.

        A page is there before the one before it is handed out, whose objects the caller may delete.
        """
        query: dict[str, str | int] = {**(params or {}), "limit": PAGE_SIZE}
        page = read_as(page_type, self.request("GET", path, params=query))
        while page.has_more and page.data:
            query["after"] = str(page.data[-1].model_dump()["id"])
            following = read_as(page_type, self.request("GET", path, params=query))
            yield from page.data
            page = following
        yield from page.data

    def send_once(self, method: str, path: str, *, wait_s: float = 0.0, **content: Any) -> httpx.Response:
        """Send a request whose body can be produced only once.

        Raises:
            ConnectionFailed: No answer came.
            ProblemError: The server refused.
            UnexpectedAnswer: The answer is not of this API.
        """
        try:
            timeout = httpx.Timeout(self.timeout_s, read=self.timeout_s + wait_s)
            answer = self._http.request(method, path, timeout=timeout, **content)
        except httpx.TransportError as error:
            raise self._failure(error) from error
        if not answer.is_success:
            raise error_of(answer)
        return answer

    def _send(self, request: httpx.Request, idempotent: bool, *, stream: bool) -> httpx.Response:
        for attempt in range(1, self.retry.attempts + 1):
            answer = None
            try:
                answer = self._http.send(request, stream=stream)
                if not (idempotent and worth_retrying(answer)) or attempt == self.retry.attempts:
                    return answer
                answer.close()
            except httpx.TransportError as error:
                # A connection that was never made has carried nothing, so even a POST may try again.
                safe = idempotent or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if not safe or attempt == self.retry.attempts:
                    raise self._failure(error) from error
            time.sleep(self.retry.pause_s(attempt, answer))
        raise AssertionError("the last attempt returns or raises")

    def _failure(self, error: httpx.TransportError) -> ConnectionFailed:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ConnectionFailed(f"no server can be reached at {self.base_url} ({error})")
        return ConnectionFailed(f"the connection to {self.base_url} broke ({str(error) or type(error).__name__})")


def read_as(kind: type[Answer], answer: httpx.Response) -> Answer:
    """The body of a successful answer.

    Raises:
        UnexpectedAnswer: It is something else.
    """
    try:
        return kind.model_validate_json(answer.content, extra="ignore")
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the body"
        raise UnexpectedAnswer(
            f"{answer.request.url.path}: {where}: {fault['msg']}; is this an adtn server?"
        ) from error

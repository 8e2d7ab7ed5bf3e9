"""The client: one object for one server."""

from types import TracebackType
from typing import Self

import httpx

from adtn_client.errors import LocalError, ProblemError
from adtn_client.files import Files
from adtn_client.jobs import Jobs
from adtn_client.retries import Retry
from adtn_client.transport import Transport, read_as
from jobs.schemas.catalogue import ArchitectureView, DatasetView
from jobs.schemas.common import Page


class Client:
    """A connection to a compression service.

    Args:
        base_url: Where the server is.
        api_key: Needed unless the server is open to this machine; never part of a message or a `repr`.
        timeout_s: Seconds that connecting, and each wait for bytes, may take.
        retry: When requests that are safe to repeat are tried again.
        http_transport: Sends the requests in place of the network, for tests.

    Attributes:
        files: Calls about uploads.
        jobs: Calls about compressions.

    Raises:
        LocalError: `base_url` is not an http or https URL.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        http_transport: httpx.BaseTransport | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise LocalError(f"expected a server URL such as http://127.0.0.1:8000, got {base_url!r}")
        try:
            self._transport = Transport(base_url, api_key, timeout_s, retry or Retry(), http_transport)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise LocalError(f"{base_url!r} is not a URL, or the API key is not plain ASCII: {error}") from error
        self.files = Files(self._transport)
        self.jobs = Jobs(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._transport.base_url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def architectures(self) -> list[ArchitectureView]:
        """The architectures that the server knows by name."""
        return read_as(Page[ArchitectureView], self._transport.request("GET", "/v1/architectures")).data

    def datasets(self) -> list[DatasetView]:
        """The data sets that the server knows by name."""
        return read_as(Page[DatasetView], self._transport.request("GET", "/v1/datasets")).data

    def ready(self) -> bool:
        """Whether the server says that it can work.

        Raises:
            ConnectionFailed, UnexpectedAnswer: See `Transport.request`.
        """
        try:
            return self._transport.request("GET", "/readyz").is_success
        except ProblemError:
            return False

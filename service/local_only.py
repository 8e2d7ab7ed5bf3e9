"""What a service without keys answers: programs on this machine, and no web page that the user happens to visit."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.problems import ProblemError
from jobs.settings import is_loopback
from service.errors import problem_response

SAFE = {"GET", "HEAD", "OPTIONS"}


class LocalOnly:
    """Middleware that refuses what only a browser sends on behalf of another site.

    A page whose name is made to lead to this machine (DNS rebinding) asks with its own name as `Host`; any page may
    send a form, which tells its `Origin`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        reason = _reason(scope["method"], Headers(scope=scope)) if scope["type"] == "http" else None
        if reason is None:
            await self.app(scope, receive, send)
            return
        answer = problem_response(Request(scope), ProblemError("forbidden", f"{reason}; set ADTN_REQUIRE_KEYS=true"))
        await answer(scope, receive, send)


def _reason(method: str, headers: Headers) -> str | None:
    """Why a request is refused."""
    host, origin = headers.get("host"), headers.get("origin")
    if host and not _is_here(f"//{host}"):  # browsers always tell it
        return f"without keys the service answers under a name of this machine, such as localhost, not {host!r}"
    if method not in SAFE and origin is not None and not _is_here(origin):
        return f"without keys a page of {origin!r} may change nothing"
    return None


def _is_here(url: str) -> bool:
    """Whether a URL is on this machine, whatever the port."""
    try:
        name = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    return is_loopback(name) or name.endswith(".localhost")

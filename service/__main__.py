"""`python -m service`: the API process."""

import logging
import sys
from types import FrameType

import uvicorn
from asgi_correlation_id import CorrelationIdFilter
from fastapi import FastAPI
from pydantic import ValidationError

from jobs.settings import Settings
from service.main import create_app

# Seconds that running requests have to end after SIGTERM.
GRACE_S = 10


class Server(uvicorn.Server):
    """Tells long polls and event streams to end as soon as a signal arrives, so that nothing waits for them."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to shut down."""
        self._app.state.resources.stopping.set()
        super().handle_exit(sig, frame)


def main() -> None:
    """Read the settings, migrate the database and serve until SIGTERM or Ctrl-C."""
    _log_with_request_ids()
    try:
        settings = Settings()
        app = create_app(settings)
    except ValidationError as error:
        sys.exit("; ".join(f"ADTN_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()))
    except ValueError as error:
        sys.exit(str(error))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    Server(config, app).run()


def _log_with_request_ids() -> None:
    handler = logging.StreamHandler()
    handler.addFilter(CorrelationIdFilter(default_value="-"))
    line = "%(asctime)s %(levelname)s %(name)s [%(correlation_id)s] %(message)s"
    logging.basicConfig(level=logging.INFO, format=line, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)


if __name__ == "__main__":
    main()

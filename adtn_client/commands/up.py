"""`adtn up`: the whole service on this machine, from one command."""

from pathlib import Path
from typing import Annotated

import typer

from adtn_client.stack import guard


def up(
    host: Annotated[
        str, typer.Option(envvar="ADTN_HOST", help="Address to listen on; 127.0.0.1 is reachable from here only.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="ADTN_PORT", min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = 8000,
    data_dir: Annotated[
        Path,
        typer.Option(envvar="ADTN_DATA_DIR", help="Database, objects, queue, logs; made if missing.", file_okay=False),
    ] = Path(".adtn"),
) -> None:
    """Run Redis, the API and the workers on this machine until Ctrl-C.

    Prints `ready http://HOST:PORT` on stdout once the service answers. SIGTERM, SIGHUP or Ctrl-C stops everything in
    order, giving running jobs back to the queue; a second one stops at once. What dies meanwhile is started again. The
    data directory decides ADTN_DATABASE_URL, ADTN_STORE_URL and ADTN_BROKER_URL; other ADTN_* variables hold.
    """
    raise typer.Exit(guard.run(host, port, data_dir))

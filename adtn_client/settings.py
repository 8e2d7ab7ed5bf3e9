"""Reading the settings of an installation on this machine."""

from pathlib import Path

from pydantic import ValidationError

from adtn_client.errors import LocalError
from jobs.settings import Settings


def read_settings(
    *, data_dir: Path | None = None, host: str | None = None, port: int | None = None, database_url: str | None = None
) -> Settings:
    """Settings from `ADTN_*` environment variables; what is given here comes before them.

    Raises:
        LocalError: A setting is not valid.
    """
    given = {"data_dir": data_dir, "host": host, "port": port, "database_url": database_url}
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        faults = [
            f"{'ADTN_' if fault['loc'] else ''}{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise LocalError("; ".join(fault.removeprefix(": Value error, ") for fault in faults)) from error

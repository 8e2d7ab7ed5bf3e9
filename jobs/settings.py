"""Settings of service and worker: read once from `ADTN_*` environment variables, then passed on."""

import ipaddress
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

NOT_IN_URLS = "?#%"
"""What cannot stand in the path of a data directory: its files are found by URLs."""


class Settings(BaseSettings):
    """Everything that differs between installations.

    Attributes:
        data_dir: Where the defaults below keep their files.
        database_url: SQLAlchemy URL, of SQLite or PostgreSQL.
        store_url: `file:///folder`, `s3://bucket/prefix` and what else obstore reads.
        broker_url: `redis://host:port/db` or `redis+socket:///path`.
        host: Address on which the service listens.
        port: Port on which the service listens.
        require_keys: Whether every call of the API needs a key; without, the service listens on loopback only.
        max_upload_bytes: Largest upload.
        max_body_bytes: Largest body of any other request.
        body_silence_s: Longest wait for the next bytes of a body.
        max_attempts: How often a job (or an inspection) is started before it fails as `worker_lost`.
        lease_s: How long a worker holds a job after its last sign of life.
        lease_poll_s: Seconds between renewals, and so between looks at a wish to cancel.
        cancel_grace_s: Seconds that a pipeline has to stop by itself.
        task_limit_s: Longest time that a task may take.
        broker_timeout_s: Longest wait for Redis when a message is published.
        reconcile_s: Seconds between two looks for lost messages and workers.
        republish_s: Age from which a message that no worker took is looked for.
        worker_silence_s: Age of the last heartbeat from which a worker counts as gone.
        tidy_s: Seconds between two looks for objects in the store that nobody needs.
        fits_kept_s: Age from which fits, which other jobs may take over, are removed.
    """

    model_config = SettingsConfigDict(env_prefix="ADTN_", frozen=True)

    data_dir: Path = Path(".adtn")
    database_url: str = ""
    store_url: str = ""
    broker_url: str = ""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    require_keys: bool = False
    max_upload_bytes: PositiveInt = 8 * 1024**3
    max_body_bytes: PositiveInt = 1024**2
    body_silence_s: PositiveFloat = 60.0
    max_attempts: PositiveInt = 3
    lease_s: PositiveFloat = 60.0
    lease_poll_s: PositiveFloat = 1.0
    cancel_grace_s: PositiveFloat = 8.0
    task_limit_s: PositiveInt = 24 * 3600
    broker_timeout_s: PositiveFloat = 1.0
    reconcile_s: PositiveFloat = 5.0
    republish_s: PositiveFloat = 30.0
    worker_silence_s: PositiveFloat = 20.0
    tidy_s: PositiveFloat = 3600.0
    fits_kept_s: PositiveFloat = 30 * 24 * 3600.0

    @model_validator(mode="before")
    @classmethod
    def _keep_data_in_the_data_dir(cls, values: dict[str, Any]) -> dict[str, Any]:
        folder = Path(values.get("data_dir") or cls.model_fields["data_dir"].default).absolute()
        defaults = {
            "database_url": f"sqlite:///{folder}/adtn.db",
            "store_url": f"file://{folder}/objects",
            "broker_url": f"redis+socket://{folder}/redis.sock",
        }
        return {**values, "data_dir": folder, **{name: values.get(name) or url for name, url in defaults.items()}}

    @field_validator("data_dir")
    @classmethod
    def _can_stand_in_urls(cls, folder: Path) -> Path:
        if set(str(folder)) & set(NOT_IN_URLS):
            raise ValueError(f"expected a path without any of {NOT_IN_URLS}, got {str(folder)!r}")
        return folder

    @property
    def open_to_the_network(self) -> bool:
        """Whether anybody on another machine could call the service without a key."""
        return not self.require_keys and not is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or an address leads to this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

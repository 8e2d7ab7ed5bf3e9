"""Which processes make up the embedded stack, and the environment they share."""

import os
import sys

from adtn_client.stack import redis
from adtn_client.stack.child import Child
from adtn_client.stack.layout import Layout

WORKER_QUEUES = ("files", "jobs")


def module_command(module: str, *arguments: str) -> list[str]:
    """Run a module with this interpreter; -P, so that a folder of the same name in the working directory is not it."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(layout: Layout, host: str, port: int) -> dict[str, str]:
    """This process' environment with every setting that the data directory decides."""
    return {
        **os.environ,
        "ADTN_DATA_DIR": str(layout.data_dir),
        "ADTN_DATABASE_URL": f"sqlite:///{layout.database}",
        "ADTN_STORE_URL": f"file://{layout.objects}",
        "ADTN_BROKER_URL": f"redis+socket://{layout.redis_socket}",
        "ADTN_HOST": host,
        "ADTN_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }


def redis_child(layout: Layout) -> Child:
    """The broker."""
    return Child("redis", redis.command(layout), os.environ, layout.logs / "redis.log")


def api_child(layout: Layout, variables: dict[str, str]) -> Child:
    """The HTTP API."""
    return Child("api", module_command("service"), variables, layout.logs / "api.log")


def worker_children(layout: Layout, variables: dict[str, str]) -> list[Child]:
    """A worker for each queue."""
    return [
        Child(
            f"worker-{queue}",
            module_command("worker", "--queue", queue),
            variables,
            layout.logs / f"worker-{queue}.log",
        )
        for queue in WORKER_QUEUES
    ]

"""The supervisor's program. It is started by the guard, which checks and locks the data directory first."""

import argparse
from pathlib import Path

from adtn_client.errors import ClientError
from adtn_client.settings import read_settings
from adtn_client.stack import messages, ports
from adtn_client.stack.layout import Layout
from adtn_client.stack.supervisor import Supervisor


def main() -> int:
    """Run the stack; the exit code is 1 if it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m adtn_client.stack", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    options = parser.parse_args()
    try:
        read_settings(data_dir=options.data_dir, host=options.host, port=options.port)
        port = ports.usable_port(options.host, options.port)
        Supervisor(Layout(options.data_dir), options.host, port).run()
    except ClientError as error:
        messages.say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

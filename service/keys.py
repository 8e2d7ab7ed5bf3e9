"""`python -m service.keys create|list|revoke`: API keys, for whoever can reach the database."""

import argparse
import sys

from jobs import keys
from jobs.database import Database, migrate, open_database
from jobs.problems import ProblemError
from jobs.schemas.common import rfc3339
from jobs.settings import Settings


def main(arguments: list[str] | None = None) -> None:
    """Run one command on the database of the settings."""
    parsed = _parser().parse_args(arguments)
    settings = Settings()
    migrate(settings.database_url)
    db = open_database(settings.database_url)
    try:
        {"create": _create, "list": _list, "revoke": _revoke}[parsed.command](db, parsed)
    except ProblemError as error:
        sys.exit(error.detail)
    finally:
        db.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.keys", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key and print it, this once")
    create.add_argument("--owner", required=True, help="whose files and jobs it opens")
    create.add_argument("--name", default="", help="to tell keys apart")
    commands.add_parser("list", help="list the keys")
    revoke = commands.add_parser("revoke", help="end a key")
    revoke.add_argument("id", help="as in the list")
    return parser


def _create(db: Database, parsed: argparse.Namespace) -> None:
    key, _ = keys.create(db, owner=parsed.owner, name=parsed.name)
    _say(key)


def _list(db: Database, _: argparse.Namespace) -> None:
    for record in keys.list_all(db):
        state = f"revoked {rfc3339(record.revoked_at)}" if record.revoked_at else "valid"
        _say("\t".join((record.id, record.owner, record.name, rfc3339(record.created_at), state)))


def _revoke(db: Database, parsed: argparse.Namespace) -> None:
    _say(f"{keys.revoke(db, parsed.id).id} is revoked")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()

"""`adtn keys create|list|revoke`: API keys, in the database of this installation. Needs no server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adtn_client.commands import output
from adtn_client.errors import LocalError
from adtn_client.settings import read_settings
from adtn_client.stack.layout import Layout
from jobs.problems import ProblemError

if TYPE_CHECKING:
    from jobs.database import Database

app = typer.Typer(
    no_args_is_help=True,
    help="API keys of this installation: that of --data-dir, else of ADTN_DATABASE_URL, else of ADTN_DATA_DIR.",
)

DataDir = Annotated[
    Path | None,
    typer.Option(help="The data directory of `adtn up`.", file_okay=False, show_default=".adtn"),
]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="To tell keys apart.")] = "unnamed",
    owner: Annotated[str, typer.Option(help="Whose files and jobs it opens; several keys may have one.")] = "default",
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it; it cannot be shown again."""
    from jobs import keys

    with database(data_dir) as db:
        key, record = keys.create(db, owner=owner, name=name)
    output.say(f"{record.id} for the owner {owner!r}; this is the only time that the key is shown")
    output.result(key)


@app.command("list")
def list_keys(data_dir: DataDir = None) -> None:
    """List keys, without the keys themselves."""
    from jobs import keys

    with database(data_dir) as db:
        records = keys.list_all(db)
    table = output.table("id", "owner", "name", "created", "revoked")
    for record in records:
        revoked = f"{record.revoked_at:%Y-%m-%d %H:%M:%S}" if record.revoked_at else None
        output.add_row(table, record.id, record.owner, record.name, f"{record.created_at:%Y-%m-%d %H:%M:%S}", revoked)
    output.console().print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id, key_...")], data_dir: DataDir = None
) -> None:
    """End a key: from now on it opens nothing."""
    from jobs import keys

    with database(data_dir) as db:
        try:
            record = keys.revoke(db, key)
        except ProblemError as error:
            raise LocalError(error.detail) from error
    output.say(f"revoked {record.id}")


@contextmanager
def database(data_dir: Path | None) -> "Iterator[Database]":
    """The database of a data directory, or the one that the settings name; with its schema up to date.

    Raises:
        LocalError: The settings are not valid.
    """
    # Only these verbs need a database library; a machine that only talks to a server may lack it.
    from jobs.database import migrate, open_database

    # As `adtn up` does, whatever ADTN_DATABASE_URL says.
    given = None if data_dir is None else f"sqlite:///{Layout(data_dir.absolute()).database}"
    url = read_settings(data_dir=data_dir, database_url=given).database_url
    migrate(url)
    db = open_database(url)
    try:
        yield db
    finally:
        db.close()

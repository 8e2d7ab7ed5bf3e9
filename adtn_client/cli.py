"""The command `adtn`: which verbs there are, and how errors end it."""

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from adtn_client.commands import compress, decode, exit_codes, inspect, jobs, keys, output, run, up
from adtn_client.errors import ClientError


class Group(TyperGroup):
    """Ends with one sentence on stderr and the exit code of what went wrong."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that was asked for."""
        try:
            return super().invoke(ctx)
        except ClientError as error:
            output.say(f"adtn: {error}")
            raise typer.Exit(exit_codes.exit_code_of(error)) from error
        except BrokenPipeError as error:
            # Whoever read has seen enough, as in `adtn events JOB | head`; nothing may be written at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(exit_codes.REFUSED) from error
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            output.say(f"adtn: {place}{error.strerror or error}")
            raise typer.Exit(exit_codes.REFUSED) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(exit_codes.INTERRUPTED) from error


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=f"Compress trained PyTorch models with deep tensor networks.\n\nExit codes: {exit_codes.__doc__}",
)
app.command()(up.up)
app.command()(run.serve)
app.command()(run.worker)
app.command()(compress.compress)
for verb in (jobs.status, jobs.events, jobs.cancel, jobs.download, jobs.report):
    app.command()(verb)
app.add_typer(keys.app, name="keys")
app.command()(inspect.inspect)
app.command()(decode.decode)

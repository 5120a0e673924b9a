"""``fourbit``: the group of commands. A command is loaded when it is asked for, so that ``--help`` is quick.

Exit codes: 0 done; 1 refused or failed, with one sentence on stderr: what a file holds or the machine does;
2 wrong use: what is asked for cannot be, whatever the files hold, or a file is not there; 130 stopped.
"""

import errno
import importlib
import logging

import click

from fourbit_onnx import __version__
from fourbit_onnx.errors import FourbitError, meant

# In the order of the help; each is the name of a file here, which holds ``command``.
COMMANDS = ("demo", "convert", "train", "eval", "export", "check", "bench", "inspect", "ops", "doctor")
INTERRUPTED = 130  # what shells expect after Ctrl-C, so that `fourbit train … && …` stops


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"fourbit_onnx.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and (near := meant(args[0], COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}{near}.")
        return super().resolve_command(ctx, args)

    def _has(self, ctx: click.Context, name: str, option: str) -> bool:
        command = self.get_command(ctx, name)
        return command is not None and any(option in one.opts for one in command.params)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            having = [f"fourbit {name}" for name in COMMANDS if self._has(ctx, name, error.option_name)]
            if error.possibilities or not having:
                raise
            message = f"{error.message} It belongs to: {', '.join(having)}."
            raise click.UsageError(message, error.ctx) from error
        except FourbitError as error:  # ours: a sentence; anything unforeseen: a traceback
            kind = click.UsageError if error.wrong_use else click.ClickException
            raise kind(str(error)) from error
        except MemoryError as error:
            raise click.ClickException(
                "there is not enough memory; use a smaller batch size or model"
            ) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # `fourbit ops | head`: click ends quietly
                raise
            place = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{place}{error.strerror or error}") from error
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            ctx.exit(INTERRUPTED)


class _Warnings(logging.Handler):
    """Warnings of the library, as a line each on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.capitalize()}: {record.getMessage()}", err=True)


@click.group(cls=_Commands, epilog="Begin with: fourbit demo", context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="fourbit")
def main() -> None:
    """Train ONNX models with 4-bit weights, activations and gradients, on CPUs."""
    logger = logging.getLogger("fourbit_onnx")
    if not logger.handlers:
        logger.addHandler(_Warnings(logging.WARNING))
        logger.propagate = False

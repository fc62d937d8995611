"""The commands. The only place that starts uvloop. Heavy imports wait for the command."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from engine import __version__
from engine.control import help_texts
from engine.control.choices import LogFormat, ProgressMode
from engine.control.exit_status import DONE, INTERRUPTED, USAGE, exit_status
from engine.control.failure import print_failure, write_stderr
from engine.control.serve_cli import serve
from engine.control.task_cli import app as task_app
from engine.errors import EngineError

app = typer.Typer(
    name="redis-ferry",
    help=help_texts.APP,
    epilog=help_texts.APP_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # it prints local variables, passwords among them
    context_settings={"help_option_names": ["-h", "--help"]},
)

_WHAT, _PACE, _OUTPUT = "What is migrated", "Speed and memory", "Name, progress and logs"
_SOURCE, _TARGET = "Login and TLS: source", "Login and TLS: target"


def run(arguments: Sequence[str], *, passwords_are_hidden: bool = True) -> int:
    """Parse and run. Returns the exit status; errors have been printed, without passwords.

    passwords_are_hidden: False if `ps` shows a password of these arguments, which earns a warning.
    """
    try:
        # Not standalone: typer would quote the arguments it cannot use, and exit by itself.
        status = app(
            list(arguments),
            prog_name="redis-ferry",
            standalone_mode=False,
            obj={"passwords_are_hidden": passwords_are_hidden},
        )
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a bug must not end with the status of another thing
        if hasattr(
            error, "format_message"
        ):  # usage errors have no public class in all of typer's versions
            return _usage_error(error.format_message(), getattr(error, "ctx", None), arguments)
        from engine.observability.logs import configure_logs

        configure_logs(level="error", json_lines=False)
        print_failure(error, json_lines=False)
        return exit_status(error)
    return status if isinstance(status, int) else DONE


def _usage_error(message: str, context: typer.Context | None, arguments: Sequence[str]) -> int:
    if message:  # without arguments the help has been shown, and that is all there is to say
        message = _without_passwords(message, arguments)
        command = context.command_path if context is not None else "redis-ferry"
        write_stderr(f"error: {message.rstrip('.')}")
        if arguments and "://" in arguments[0]:
            write_stderr("hint: the command is missing: redis-ferry sync SOURCE TARGET")
        else:
            write_stderr(f"hint: see {command} --help")
    return USAGE


def _without_passwords(message: str, arguments: Sequence[str]) -> str:
    """Take out whatever stands before an @, in arguments that are quoted as they are or escaped."""
    for argument in arguments:
        if "@" in argument:
            message = message.replace(argument, f"***{argument[argument.rindex('@') :]}")
    return re.sub(r"\S*@", lambda found: found[0] if found[0].endswith("***@") else "***@", message)


def _start_sync(flags: Mapping[str, Any], *, passwords_are_hidden: bool) -> int:
    from engine.control.options import read_options, wants_json_logs
    from engine.control.process_title import hide_passwords_in_environment
    from engine.observability.logs import configure_logs

    try:
        options = read_options(flags, os.environ)
    except EngineError as error:
        json_lines = wants_json_logs(flags, os.environ)
        configure_logs(level="error", json_lines=json_lines)
        print_failure(error, json_lines=json_lines)
        return exit_status(error)
    hide_passwords_in_environment()
    if not passwords_are_hidden:
        text = "ps shows the password of a URL on this system; use a password file instead"
        options = replace(options, warnings=(*options.warnings, text))
    configure_logs(level=options.log_level, json_lines=options.log_format is LogFormat.JSON)

    import asyncio

    import uvloop

    from engine.control.sync import run_sync

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run_sync(options))


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"redis-ferry {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


# Values are taken as text: engine/control/options.py checks them, whichever way they came.
@app.command(help=help_texts.SYNC, epilog=help_texts.SYNC_EPILOG)
def sync(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="URL of the server to read.")
    ] = None,
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="URL of the server to write.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="TOML file with any of these options.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="full|incremental",
            rich_help_panel=_WHAT,
            help="The snapshot only, or the snapshot and then the writes until stopped. "
            "Default: incremental.",
        ),
    ] = None,
    exit_when_synced: Annotated[
        bool | None,
        typer.Option(
            "--exit-when-synced",
            metavar="",
            rich_help_panel=_WHAT,
            help="Incremental: end with 0 once the snapshot is applied and the target has every "
            "byte the source had at that moment.",
        ),
    ] = None,
    on_conflict: Annotated[
        str | None,
        typer.Option(
            metavar="replace|skip|fail",
            rich_help_panel=_WHAT,
            help="What to do with a key of the snapshot that the target already has. "
            "Default: replace.",
        ),
    ] = None,
    resume_mode: Annotated[
        str | None,
        typer.Option(
            metavar="auto|manual",
            rich_help_panel=_WHAT,
            help="After a lost connection: go on by itself, or stop for the operator. "
            "Default: auto.",
        ),
    ] = None,
    bandwidth_limit_mb: Annotated[
        str | None,
        typer.Option(
            metavar="1..10240",
            rich_help_panel=_PACE,
            help="Most megabytes (of 1,048,576 bytes) a second written to the target. "
            "Default: no limit.",
        ),
    ] = None,
    delivery: Annotated[
        str | None,
        typer.Option(
            metavar="exactly-once|at-least-once",
            rich_help_panel=_WHAT,
            help="at-least-once: no transactions on the target, for targets that refuse them; a crash "
            "then repeats up to a second of writes. Default: exactly-once.",
        ),
    ] = None,
    spool_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            rich_help_panel=_PACE,
            help="Where what does not fit into memory waits, and where a crashed run's rest is found. "
            "Default: ~/.local/state/redis-ferry.",
        ),
    ] = None,
    spool_disk_gb: Annotated[
        str | None,
        typer.Option(
            metavar="0..65536",
            rich_help_panel=_PACE,
            help="Most gigabytes of it on disk; then the source has to wait. Default: 16.",
        ),
    ] = None,
    spool_memory_mb: Annotated[
        str | None,
        typer.Option(
            metavar="8..65536",
            rich_help_panel=_PACE,
            help="Memory for what has been received and is not applied yet; more goes to disk. "
            "Default: 32.",
        ),
    ] = None,
    spool_tail_mb: Annotated[
        str | None,
        typer.Option(
            metavar="0..65536",
            rich_help_panel=_PACE,
            help="Memory for what has just been applied, in case the target loses its last writes. "
            "Default: 16.",
        ),
    ] = None,
    task_id: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_OUTPUT,
            help="Name of the checkpoint: the same name resumes. 1 to 64 letters, digits, . _ -. "
            "Default: made from the two addresses.",
        ),
    ] = None,
    progress: Annotated[
        str | None,
        typer.Option(
            metavar="auto|plain|json|none",
            rich_help_panel=_OUTPUT,
            help="auto: bars on a terminal, else plain: a line now and then (both on stderr). "
            "json: an object a line on stdout, at least one a second. Default: auto.",
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            metavar="debug|info|warning|error",
            rich_help_panel=_OUTPUT,
            help="The least severe line to log, on stderr. Default: info.",
        ),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            metavar="text|json",
            rich_help_panel=_OUTPUT,
            help="Log lines for people or for machines. Default: text.",
        ),
    ] = None,
    source_password_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_SOURCE,
            help="Password of the source; one newline at its end is ignored.",
        ),
    ] = None,
    source_tls_ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_SOURCE,
            help="CA certificates to verify the source with (PEM). Default: the system's.",
        ),
    ] = None,
    source_tls_cert: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", rich_help_panel=_SOURCE, help="Our certificate for the source (PEM)."
        ),
    ] = None,
    source_tls_key: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", rich_help_panel=_SOURCE, help="The key of that certificate (PEM)."
        ),
    ] = None,
    source_tls_insecure: Annotated[
        bool | None,
        typer.Option(
            "--source-tls-insecure",
            metavar="",
            rich_help_panel=_SOURCE,
            help="Do not verify the source's certificate.",
        ),
    ] = None,
    target_password_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_TARGET,
            help="Password of the target; one newline at its end is ignored.",
        ),
    ] = None,
    target_tls_ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_TARGET,
            help="CA certificates to verify the target with (PEM). Default: the system's.",
        ),
    ] = None,
    target_tls_cert: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", rich_help_panel=_TARGET, help="Our certificate for the target (PEM)."
        ),
    ] = None,
    target_tls_key: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", rich_help_panel=_TARGET, help="The key of that certificate (PEM)."
        ),
    ] = None,
    target_tls_insecure: Annotated[
        bool | None,
        typer.Option(
            "--target-tls-insecure",
            metavar="",
            rich_help_panel=_TARGET,
            help="Do not verify the target's certificate.",
        ),
    ] = None,
) -> int:
    """Run engine/control/sync.py with these options."""
    flags = {name: value for name, value in locals().items() if value is not None}
    del flags["context"]
    return _start_sync(flags, passwords_are_hidden=context.obj["passwords_are_hidden"])


app.command(help=help_texts.SERVE, epilog=help_texts.SERVE_EPILOG)(serve)

app.add_typer(task_app)


@app.command(help=help_texts.DEMO)
def demo(
    keys: Annotated[
        int, typer.Option(min=1, max=50_000_000, help="Keys to fill the source with.")
    ] = 300_000,
    rate: Annotated[
        int, typer.Option(min=0, max=100_000, help="Commands a second written meanwhile.")
    ] = 3000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the servers up and print their addresses.")
    ] = False,
    progress: Annotated[
        ProgressMode, typer.Option(help="How to show the migration; see sync --help.")
    ] = ProgressMode.AUTO,
) -> int:
    """Run engine/control/demo.py."""
    from engine.control.demo import run_demo

    return run_demo(keys=keys, rate=rate, seed=seed, keep=keep, progress=progress.value)


@app.command(help="Print the version and what it runs on.")
def version() -> int:
    """Print engine/control/versions.py's lines."""
    from engine.control.versions import version_lines

    typer.echo("\n".join(version_lines()))
    return DONE

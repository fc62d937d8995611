"""The commands. The only place that starts uvloop. Heavy imports wait for the command."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine import __version__
from engine.control import help_texts, parameters
from engine.control.choices import LogFormat, OutputFormat, ProgressMode
from engine.control.exit_status import DONE, INTERRUPTED, USAGE, exit_status
from engine.control.failure import print_failure, write_stderr
from engine.control.inspect_cli import inspect
from engine.control.plain_help import leave_types_out
from engine.control.serve_cli import serve
from engine.control.task_cli import app as task_app
from engine.control.tasks_cli import tasks
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.control.options import SyncOptions

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
app.add_typer(tasks)
app.add_typer(task_app)


def run(arguments: Sequence[str], *, passwords_are_hidden: bool = True) -> int:
    """Parse and run. Returns the exit status; errors have been printed, without passwords.

    passwords_are_hidden: False if `ps` shows a password of these arguments, which earns a warning.
    """
    command: Any = typer.main.get_command(app)
    leave_types_out(command)
    try:
        # Not standalone: typer would quote the arguments it cannot use, and exit by itself.
        status = command(
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


def _start(
    flags: Mapping[str, Any],
    context: typer.Context,
    do: Callable[[SyncOptions], Coroutine[Any, Any, int]],
) -> int:
    """Read the options, set up logs, run `do` with them. Returns the exit status."""
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
    if not context.obj["passwords_are_hidden"]:
        text = "ps shows the password of a URL on this system; use a password file instead"
        options = replace(options, warnings=(*options.warnings, text))
    configure_logs(level=options.log_level, json_lines=options.log_format is LogFormat.JSON)

    import asyncio

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(do(options))
        except EngineError as error:  # before there was a task to report it: a file that is no dump
            print_failure(error, json_lines=options.log_format is LogFormat.JSON)
            return exit_status(error)


def _given(values: Mapping[str, Any], *but: str) -> dict[str, Any]:
    return {name: it for name, it in values.items() if it not in (None, []) and name not in but}


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


@app.command(help=help_texts.SYNC, epilog=help_texts.SYNC_EPILOG)
def sync(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    source: parameters.SourceUrl = None,
    target: parameters.TargetUrl = None,
    config: parameters.Config = None,
    method: parameters.Method = None,
    exit_when_synced: parameters.ExitWhenSynced = None,
    aof_truncated: parameters.AofTruncated = None,
    source_reader: parameters.SourceReader = None,
    scan_changes: parameters.ScanChanges = None,
    on_conflict: parameters.OnConflict = None,
    on_unsupported: parameters.OnUnsupported = None,
    field_ttls: parameters.FieldTtls = None,
    on_cross_slot: parameters.OnCrossSlot = None,
    include_key: parameters.IncludeKey = None,
    exclude_key: parameters.ExcludeKey = None,
    databases: parameters.Databases = None,
    db_map: parameters.DbMap = None,
    exclude_command: parameters.ExcludeCommand = None,
    key_prefix_strip: parameters.KeyPrefixStrip = None,
    key_prefix_add: parameters.KeyPrefixAdd = None,
    big_value_mb: parameters.BigValueMb = None,
    resume_mode: parameters.ResumeMode = None,
    bandwidth_limit_mb: parameters.BandwidthLimitMb = None,
    delivery: parameters.Delivery = None,
    spool_dir: parameters.SpoolDir = None,
    spool_disk_gb: parameters.SpoolDiskGb = None,
    spool_memory_mb: parameters.SpoolMemoryMb = None,
    spool_tail_mb: parameters.SpoolTailMb = None,
    task_id: parameters.TaskId = None,
    progress: parameters.Progress = None,
    log_level: parameters.LogLevel = None,
    log_format: parameters.LogFormat = None,
    metrics_listen: parameters.MetricsListen = None,
    read_from: parameters.ReadFrom = None,
    snapshots_per_host: parameters.SnapshotsPerHost = None,
    address_map: parameters.AddressMap = None,
    source_sentinel_user: parameters.SourceSentinelUser = None,
    source_sentinel_password_file: parameters.SourceSentinelPasswordFile = None,
    target_sentinel_user: parameters.TargetSentinelUser = None,
    target_sentinel_password_file: parameters.TargetSentinelPasswordFile = None,
    source_password_file: parameters.SourcePasswordFile = None,
    source_tls_ca: parameters.SourceTlsCa = None,
    source_tls_cert: parameters.SourceTlsCert = None,
    source_tls_key: parameters.SourceTlsKey = None,
    source_tls_insecure: parameters.SourceTlsInsecure = None,
    target_password_file: parameters.TargetPasswordFile = None,
    target_tls_ca: parameters.TargetTlsCa = None,
    target_tls_cert: parameters.TargetTlsCert = None,
    target_tls_key: parameters.TargetTlsKey = None,
    target_tls_insecure: parameters.TargetTlsInsecure = None,
) -> int:
    """Run engine/control/sync.py with these options."""
    flags = _given(locals(), "context")

    async def do(options: SyncOptions) -> int:
        from engine.control.served_source import served_source
        from engine.control.sync import run_sync

        async with served_source(options) as served:
            return await run_sync(served)

    return _start(flags, context, do)


@app.command(help=help_texts.CHECK, epilog=help_texts.CHECK_EPILOG)
def check(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    source: parameters.SourceUrl = None,
    target: parameters.TargetUrl = None,
    config: parameters.Config = None,
    sample_seconds: Annotated[
        float,
        typer.Option(min=0, max=3600, help="How long to measure the source's write rate; 0: not."),
    ] = 2.0,
    output: parameters.Format = OutputFormat.TEXT,
    method: parameters.Method = None,
    source_reader: parameters.SourceReader = None,
    scan_changes: parameters.ScanChanges = None,
    on_conflict: parameters.OnConflict = None,
    field_ttls: parameters.FieldTtls = None,
    include_key: parameters.IncludeKey = None,
    exclude_key: parameters.ExcludeKey = None,
    databases: parameters.Databases = None,
    db_map: parameters.DbMap = None,
    exclude_command: parameters.ExcludeCommand = None,
    key_prefix_strip: parameters.KeyPrefixStrip = None,
    key_prefix_add: parameters.KeyPrefixAdd = None,
    bandwidth_limit_mb: parameters.BandwidthLimitMb = None,
    spool_dir: parameters.SpoolDir = None,
    spool_disk_gb: parameters.SpoolDiskGb = None,
    spool_memory_mb: parameters.SpoolMemoryMb = None,
    spool_tail_mb: parameters.SpoolTailMb = None,
    task_id: parameters.TaskId = None,
    log_level: parameters.LogLevel = None,
    log_format: parameters.LogFormat = None,
    read_from: parameters.ReadFrom = None,
    snapshots_per_host: parameters.SnapshotsPerHost = None,
    address_map: parameters.AddressMap = None,
    source_sentinel_user: parameters.SourceSentinelUser = None,
    source_sentinel_password_file: parameters.SourceSentinelPasswordFile = None,
    target_sentinel_user: parameters.TargetSentinelUser = None,
    target_sentinel_password_file: parameters.TargetSentinelPasswordFile = None,
    source_password_file: parameters.SourcePasswordFile = None,
    source_tls_ca: parameters.SourceTlsCa = None,
    source_tls_cert: parameters.SourceTlsCert = None,
    source_tls_key: parameters.SourceTlsKey = None,
    source_tls_insecure: parameters.SourceTlsInsecure = None,
    target_password_file: parameters.TargetPasswordFile = None,
    target_tls_ca: parameters.TargetTlsCa = None,
    target_tls_cert: parameters.TargetTlsCert = None,
    target_tls_key: parameters.TargetTlsKey = None,
    target_tls_insecure: parameters.TargetTlsInsecure = None,
) -> int:
    """Run engine/control/check.py with these options."""
    flags = _given(locals(), "context", "sample_seconds", "output")

    async def do(options: SyncOptions) -> int:
        from engine.control.check import check_status, report_text, run_check
        from engine.control.served_source import looked_at_source

        for warning in options.warnings:
            write_stderr(f"warning: {warning}")
        async with looked_at_source(options) as served:
            findings = await run_check(served.task, sample_seconds=sample_seconds)
        typer.echo(report_text(findings, options.task, output))
        return check_status(findings)

    return _start(flags, context, do)


app.command(help=help_texts.INSPECT, epilog=help_texts.INSPECT_EPILOG)(inspect)
app.command(help=help_texts.SERVE, epilog=help_texts.SERVE_EPILOG)(serve)


@app.command(help=help_texts.DEMO)
def demo(
    keys: Annotated[
        int, typer.Option(metavar="N", min=1, max=50_000_000, help="Keys to fill the source with.")
    ] = 300_000,
    rate: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=100_000, help="Commands a second written meanwhile."),
    ] = 3000,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed makes the same data.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the servers up and print their addresses.")
    ] = False,
    progress: Annotated[
        ProgressMode,
        typer.Option(
            metavar="auto|plain|json|none", help="How to show the migration; see sync --help."
        ),
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

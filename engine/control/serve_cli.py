"""The command `serve`: its parameters. Values are taken as text; serve_options.py checks them."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from engine.control.choices import LogFormat
from engine.control.exit_status import USAGE, exit_status
from engine.control.failure import print_failure, write_stderr
from engine.errors import EngineError, install_hint

_WHERE, _WHO, _WITH = "Where it listens and keeps things", "Who is let in", "What tasks may use"
_OUTPUT = "Logs"

Text = str | None


def serve(  # noqa: PLR0913, PLR0917 - one parameter an option
    listen: Annotated[
        Text,
        typer.Option(metavar="HOST:PORT", rich_help_panel=_WHERE, help="Default: 127.0.0.1:8000."),
    ] = None,
    config: Annotated[
        Text,
        typer.Option(
            metavar="FILE", rich_help_panel=_WHERE, help="TOML file with any of these options."
        ),
    ] = None,
    state_dir: Annotated[
        Text,
        typer.Option(
            metavar="FOLDER",
            rich_help_panel=_WHERE,
            help="Store, key and spools. Default: ~/.local/state/redis-ferry-service.",
        ),
    ] = None,
    database_url: Annotated[
        Text,
        typer.Option(
            metavar="URL",
            rich_help_panel=_WHERE,
            help="Store in PostgreSQL, postgresql://user:password@host/name, instead of SQLite in the "
            "state folder; better given as REDIS_FERRY_SERVE_DATABASE_URL.",
        ),
    ] = None,
    secret_key_file: Annotated[
        Text,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_WHERE,
            help="Key that instance passwords are encrypted with; made if it is not there. Or "
            "REDIS_FERRY_SERVE_SECRET_KEY. Default: secret.key in the state folder.",
        ),
    ] = None,
    tls_cert: Annotated[
        Text,
        typer.Option(
            metavar="FILE", rich_help_panel=_WHERE, help="Certificate chain to serve HTTPS (PEM)."
        ),
    ] = None,
    tls_key: Annotated[
        Text, typer.Option(metavar="FILE", rich_help_panel=_WHERE, help="Its key (PEM).")
    ] = None,
    request_timeout_seconds: Annotated[
        Text,
        typer.Option(
            metavar="SECONDS",
            rich_help_panel=_WHERE,
            help="Most a request may take to arrive. Default: 30.",
        ),
    ] = None,
    advertise_address: Annotated[
        Text,
        typer.Option(
            metavar="IP",
            rich_help_panel=_WHERE,
            help="Shown to clients as the migration machine's address. Default: the one listened on.",
        ),
    ] = None,
    auth_file: Annotated[
        Text,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_WHO,
            help="TOML with tables tokens, keys or keystone. Without it everybody on this machine "
            "is let in, and nobody else can connect.",
        ),
    ] = None,
    instances: Annotated[
        Text,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_WITH,
            help="TOML with a table for each instance that tasks may name by id.",
        ),
    ] = None,
    backup_dir: Annotated[
        Text,
        typer.Option(
            metavar="FOLDER",
            rich_help_panel=_WITH,
            help="RDB files that may be imported; buckets are its folders.",
        ),
    ] = None,
    exchange_command: Annotated[
        Text,
        typer.Option(
            metavar="COMMAND",
            rich_help_panel=_WITH,
            help="Run for exchange-ip and rollback-ip with the order as JSON on its input; exit 0: done.",
        ),
    ] = None,
    exchange_webhook: Annotated[
        Text,
        typer.Option(
            metavar="URL", rich_help_panel=_WITH, help="Gets the order by POST instead; 2xx: done."
        ),
    ] = None,
    spool_memory_mb: Annotated[
        Text,
        typer.Option(
            metavar="8..65536",
            rich_help_panel=_WITH,
            help="As of sync, for each task. Default: 32.",
        ),
    ] = None,
    spool_disk_gb: Annotated[
        Text,
        typer.Option(
            metavar="0..65536",
            rich_help_panel=_WITH,
            help="As of sync, for each task. Default: 16.",
        ),
    ] = None,
    on_unsupported: Annotated[
        Text,
        typer.Option(
            metavar="stop|skip",
            rich_help_panel=_WITH,
            help="As of sync, for each task: what a target cannot hold. Default: stop.",
        ),
    ] = None,
    field_ttls: Annotated[
        Text,
        typer.Option(
            metavar="refuse|drop",
            rich_help_panel=_WITH,
            help="As of sync, for each task: expiries of hash fields that a target lacks. Default: refuse.",
        ),
    ] = None,
    on_cross_slot: Annotated[
        Text,
        typer.Option(
            metavar="resolve|stop",
            rich_help_panel=_WITH,
            help="As of sync, for each task: commands over several slots of a target cluster. Default: resolve.",
        ),
    ] = None,
    big_value_mb: Annotated[
        Text,
        typer.Option(
            metavar="1..512",
            rich_help_panel=_WITH,
            help="As of sync, for each task: larger values are sent in parts. Default: 16.",
        ),
    ] = None,
    source_reader: Annotated[
        Text,
        typer.Option(
            metavar="psync|scan|auto",
            rich_help_panel=_WITH,
            help="As of sync, for each task: how sources are read. Default: psync.",
        ),
    ] = None,
    scan_changes: Annotated[
        Text,
        typer.Option(
            metavar="auto|notifications|enable|passes",
            rich_help_panel=_WITH,
            help="As of sync, for each task that is read by scan. Default: auto.",
        ),
    ] = None,
    read_from: Annotated[
        Text,
        typer.Option(
            metavar="primary|replica",
            rich_help_panel=_WITH,
            help="As of sync, for each task with a cluster as the source. Default: primary.",
        ),
    ] = None,
    snapshots_per_host: Annotated[
        Text,
        typer.Option(
            metavar="0..1000",
            rich_help_panel=_WITH,
            help="As of sync, for each task: shards of a source cluster on one host that make their snapshots "
            "at once; 0: all. Default: 1.",
        ),
    ] = None,
    address_map: Annotated[
        Text,
        typer.Option(
            metavar="ANNOUNCED=REACHABLE,…",
            rich_help_panel=_WITH,
            help="As of sync, for all tasks: addresses that nodes of clusters announce, and those to be used instead.",
        ),
    ] = None,
    log_level: Annotated[
        Text,
        typer.Option(
            metavar="debug|info|warning|error",
            rich_help_panel=_OUTPUT,
            help="The least severe line to log, on stderr. Default: info.",
        ),
    ] = None,
    log_format: Annotated[
        Text,
        typer.Option(
            metavar="text|json",
            rich_help_panel=_OUTPUT,
            help="Log lines for people or for machines. Default: text.",
        ),
    ] = None,
) -> int:
    """Run engine/control/serve.py with these options."""
    flags = {name: value for name, value in locals().items() if value is not None}
    try:
        import sqlalchemy  # noqa: F401
        import uvicorn  # noqa: F401 - only whether it is there
    except ModuleNotFoundError as error:
        write_stderr(f"error: serve needs the package {error.name}")
        write_stderr(f"hint: {install_hint('service')}")
        return USAGE
    return _start(flags)


def _start(flags: dict[str, str]) -> int:
    import asyncio

    import uvloop

    from engine.control.process_title import hide_passwords_in_environment
    from engine.control.serve import run_serve
    from engine.control.serve_options import read_serve_options
    from engine.observability.logs import configure_logs

    json_lines = flags.get("log_format") == LogFormat.JSON
    try:
        configure_logs(level="error", json_lines=json_lines)
        options = read_serve_options(flags, os.environ)
        hide_passwords_in_environment()
        json_lines = options.log_format is LogFormat.JSON
        configure_logs(level=options.log_level, json_lines=json_lines)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run_serve(options))
    except EngineError as error:
        print_failure(error, json_lines=json_lines)
        return exit_status(error)

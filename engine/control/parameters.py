"""The options that several commands share, as typer takes them.

Values are taken as text: engine/control/options.py checks them, whichever way they came.
"""

from __future__ import annotations

from typing import Annotated

import typer

from engine.control.choices import OutputFormat

CHOICE = "Keys, databases and commands"
WHAT, PACE, OUTPUT = "What is migrated", "Speed and memory", "Name, progress and logs"
SOURCE, TARGET = "Login and TLS: source", "Login and TLS: target"

SourceUrl = Annotated[
    str | None,
    typer.Argument(metavar="SOURCE", help="URL of the server to read, or file:dump.rdb."),
]
TargetUrl = Annotated[
    str | None, typer.Argument(metavar="TARGET", help="URL of the server to write.")
]
Config = Annotated[
    str | None, typer.Option(metavar="FILE", help="TOML file with any of these options.")
]
Method = Annotated[
    str | None,
    typer.Option(
        metavar="full|incremental",
        rich_help_panel=WHAT,
        help="The snapshot only, or the snapshot and then the writes until stopped. "
        "Default: incremental.",
    ),
]
ExitWhenSynced = Annotated[
    bool | None,
    typer.Option(
        "--exit-when-synced",
        metavar="",
        rich_help_panel=WHAT,
        help="Incremental: end with 0 once the snapshot is applied and the target has every "
        "byte the source had at that moment.",
    ),
]
AofTruncated = Annotated[
    str | None,
    typer.Option(
        "--aof-truncated",
        metavar="load|refuse",
        rich_help_panel=WHAT,
        help="A file: source whose last command is not whole: take it up to there, as a server does, or not at all. "
        "[default: load]",
    ),
]
SourceReader = Annotated[
    str | None,
    typer.Option(
        "--source-reader",
        metavar="psync|scan|auto",
        rich_help_panel=WHAT,
        help="How the source is read: as a replica (psync), key by key where PSYNC is refused (scan), or as a replica if "
        "that is permitted (auto). scan promises less: see OPERATIONS.md. Default: psync.",
    ),
]
ScanChanges = Annotated[
    str | None,
    typer.Option(
        "--scan-changes",
        metavar="auto|notifications|enable|passes",
        rich_help_panel=WHAT,
        help="How scan learns of changes: keyspace notifications where they are on, else repeated passes (auto); "
        "notifications, also where the source does not say; enable: switched on with CONFIG SET; passes. Default: auto.",
    ),
]
OnConflict = Annotated[
    str | None,
    typer.Option(
        metavar="replace|skip|fail",
        rich_help_panel=WHAT,
        help="What to do with a key of the snapshot that the target already has. Default: replace.",
    ),
]
OnUnsupported = Annotated[
    str | None,
    typer.Option(
        metavar="stop|skip",
        rich_help_panel=WHAT,
        help="What to do with a key or a command that the target cannot have in any form; skip leaves it out and "
        "lists it in refused-keys.jsonl. Default: stop.",
    ),
]
OnCrossSlot = Annotated[
    str | None,
    typer.Option(
        metavar="resolve|stop",
        rich_help_panel=WHAT,
        help="What to do with a command of the stream whose keys are in several slots of a target cluster and that can't be "
        "split (RENAME, SUNIONSTORE …): take what it has made from the source, or stop. Default: resolve.",
    ),
]
FieldTtls = Annotated[
    str | None,
    typer.Option(
        metavar="refuse|drop",
        rich_help_panel=WHAT,
        help="What to do with hash fields that expire where the target has no such thing: the hash counts as one it "
        "cannot have, or goes without these TTLs. Default: refuse.",
    ),
]
IncludeKey = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        rich_help_panel=CHOICE,
        help="Take only keys whose name fits, like 'app:*'; several: those that fit one of them.",
    ),
]
ExcludeKey = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        rich_help_panel=CHOICE,
        help="Leave out keys whose name fits, also of those that --include-key takes; repeatable.",
    ),
]
Databases = Annotated[
    str | None,
    typer.Option(metavar="0,3", rich_help_panel=CHOICE, help="Take only these databases."),
]
DbMap = Annotated[
    str | None,
    typer.Option(
        metavar="0:5,1:2",
        rich_help_panel=CHOICE,
        help="Put a database of the source into another one of the target; several into one, as long as no key has "
        "the same name in two of them. Others keep their number.",
    ),
]
ExcludeCommand = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=CHOICE,
        help="Leave out this command of the stream of writes, like FLUSHALL; repeatable.",
    ),
]
KeyPrefixAdd = Annotated[
    str | None,
    typer.Option(metavar="TEXT", rich_help_panel=CHOICE, help="Put this before every key's name."),
]
KeyPrefixStrip = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        rich_help_panel=CHOICE,
        help="Take this off the beginning of every key's name; all that --include-key takes must begin with it.",
    ),
]
BigValueMb = Annotated[
    str | None,
    typer.Option(
        metavar="1..512",
        rich_help_panel=PACE,
        help="Values of the snapshot over so many megabytes are sent in parts and never held whole. Default: 16, and "
        "never more than the target's proto-max-bulk-len.",
    ),
]
ResumeMode = Annotated[
    str | None,
    typer.Option(
        metavar="auto|manual",
        rich_help_panel=WHAT,
        help="After a lost connection: go on by itself, or stop for the operator. Default: auto.",
    ),
]
BandwidthLimitMb = Annotated[
    str | None,
    typer.Option(
        metavar="1..10240",
        rich_help_panel=PACE,
        help="Most megabytes (of 1,048,576 bytes) a second written to the target. "
        "Default: no limit.",
    ),
]
Delivery = Annotated[
    str | None,
    typer.Option(
        metavar="exactly-once|at-least-once",
        rich_help_panel=WHAT,
        help="at-least-once: no transactions on the target, for targets that refuse them; a crash "
        "then repeats up to a second of writes. Default: exactly-once.",
    ),
]
SpoolDir = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        rich_help_panel=PACE,
        help="Where what does not fit into memory waits, and where a crashed run's rest is found. "
        "Default: ~/.local/state/redis-ferry.",
    ),
]
SpoolDiskGb = Annotated[
    str | None,
    typer.Option(
        metavar="0..65536",
        rich_help_panel=PACE,
        help="Most gigabytes of it on disk; then the source has to wait. Default: 16.",
    ),
]
SpoolMemoryMb = Annotated[
    str | None,
    typer.Option(
        metavar="8..65536",
        rich_help_panel=PACE,
        help="Memory for what has been received and is not applied yet; more goes to disk. "
        "Default: 32.",
    ),
]
SpoolTailMb = Annotated[
    str | None,
    typer.Option(
        metavar="0..65536",
        rich_help_panel=PACE,
        help="Memory for what has just been applied, in case the target loses its last writes. "
        "Default: 16.",
    ),
]
TaskId = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=OUTPUT,
        help="Name of the checkpoint: the same name resumes. 1 to 64 letters, digits, . _ -. "
        "Default: made from the two addresses.",
    ),
]
Progress = Annotated[
    str | None,
    typer.Option(
        metavar="auto|plain|json|none",
        rich_help_panel=OUTPUT,
        help="auto: bars on a terminal, else plain: a line now and then (both on stderr). "
        "json: an object a line on stdout, at least one a second. Default: auto.",
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        metavar="debug|info|warning|error",
        rich_help_panel=OUTPUT,
        help="The least severe line to log, on stderr. Default: info, around bars warning.",
    ),
]
LogFormat = Annotated[
    str | None,
    typer.Option(
        metavar="text|json",
        rich_help_panel=OUTPUT,
        help="Log lines for people or for machines. Default: text.",
    ),
]
MetricsListen = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        rich_help_panel=OUTPUT,
        help="Serve Prometheus metrics at /metrics there while it runs. Default: not.",
    ),
]
SourcePasswordFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=SOURCE,
        help="Password of the source; one newline at its end is ignored.",
    ),
]
ReadFrom = Annotated[
    str | None,
    typer.Option(
        metavar="primary|replica",
        rich_help_panel=WHAT,
        help="Cluster: which node of each shard to read from. Default: primary.",
    ),
]
SnapshotsPerHost = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        rich_help_panel=SOURCE,
        help="Cluster: how many shards on one host make and send a snapshot at a time; 0: all. "
        "Default: 1.",
    ),
]
AddressMap = Annotated[
    str | None,
    typer.Option(
        metavar="ANNOUNCED=REACHABLE,…",
        rich_help_panel=OUTPUT,
        help="Addresses that nodes or Sentinels announce (host:port or host) and those to be used "
        "instead.",
    ),
]
SourceSentinelUser = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=SOURCE, help="User of the source's Sentinels."),
]
SourceSentinelPasswordFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", rich_help_panel=SOURCE, help="Password of the source's Sentinels."
    ),
]
TargetSentinelUser = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=TARGET, help="User of the target's Sentinels."),
]
TargetSentinelPasswordFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", rich_help_panel=TARGET, help="Password of the target's Sentinels."
    ),
]
SourceTlsCa = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=SOURCE,
        help="CA certificates to verify the source with (PEM). Default: the system's.",
    ),
]
SourceTlsCert = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", rich_help_panel=SOURCE, help="Our certificate for the source (PEM)."
    ),
]
SourceTlsKey = Annotated[
    str | None,
    typer.Option(metavar="FILE", rich_help_panel=SOURCE, help="The key of that certificate (PEM)."),
]
SourceTlsInsecure = Annotated[
    bool | None,
    typer.Option(
        "--source-tls-insecure",
        metavar="",
        rich_help_panel=SOURCE,
        help="Do not verify the source's certificate.",
    ),
]
TargetPasswordFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=TARGET,
        help="Password of the target; one newline at its end is ignored.",
    ),
]
TargetTlsCa = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=TARGET,
        help="CA certificates to verify the target with (PEM). Default: the system's.",
    ),
]
TargetTlsCert = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", rich_help_panel=TARGET, help="Our certificate for the target (PEM)."
    ),
]
TargetTlsKey = Annotated[
    str | None,
    typer.Option(metavar="FILE", rich_help_panel=TARGET, help="The key of that certificate (PEM)."),
]
TargetTlsInsecure = Annotated[
    bool | None,
    typer.Option(
        "--target-tls-insecure",
        metavar="",
        rich_help_panel=TARGET,
        help="Do not verify the target's certificate.",
    ),
]

Format = Annotated[
    OutputFormat,
    typer.Option("--format", help="For people, or one JSON object for machines."),
]

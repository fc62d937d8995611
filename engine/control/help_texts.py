"""The longer texts of `--help`, in rich's markup: examples within 76 columns."""

from __future__ import annotations

EXIT_STATUSES = """\
[bold]Exit status[/bold]
    0  done
    2  wrong usage or configuration
    3  refused before anything was written: unreachable, login,
       permissions, incompatible
    4  failed while running
  130  interrupted: SIGINT and SIGTERM stop gracefully (at most 10 s),
       a second one at once"""

APP = (
    "Move one Redis (or Valkey, KeyDB) server's data and its live writes into another.\n\n"
    "redis-ferry joins the source as a replica, copies the snapshot, then follows the stream of "
    "writes until you stop it. Stopped and started again with the same command, it goes on where "
    "it was."
)

APP_EPILOG = f"""\
[bold]Start here[/bold]
  redis-ferry demo            two servers, data, a migration, a comparison
  redis-ferry sync redis://old.example redis://new.example
  redis-ferry check redis://old.example redis://new.example
                              what would go wrong, and how to mend it
  redis-ferry serve           many tasks in one process, driven over HTTP
  redis-ferry sync --help     every option, with examples

{EXIT_STATUSES}"""

SYNC = (
    "Migrate SOURCE into TARGET, in the foreground.\n\n"
    "URLs: redis://user:password@host:6379, rediss://… for TLS (the server's certificate is "
    "verified), unix:///path/of/socket. User and password are percent-encoded (@ is %40, : is "
    "%3A, / is %2F); IPv6 addresses stand in brackets; the port is 6379 if left out. All "
    "databases are migrated, so a URL has no /0.\n\n"
    "Every option can also be written as a variable (REDIS_FERRY_BANDWIDTH_LIMIT_MB=50) or as a "
    "key of the --config file (bandwidth_limit_mb = 50). A flag overrides the variable, the "
    "variable overrides the file.\n\n"
    "A password is taken from its file if there is one, else from REDIS_FERRY_SOURCE_PASSWORD or "
    "REDIS_FERRY_TARGET_PASSWORD, else from the URL. Prefer the first two: a password in a URL "
    "stays in the shell's history, and ps shows it for the moment redis-ferry needs to start and "
    "hide it."
)

SYNC_EPILOG = f"""\
[bold]Examples[/bold]
  Copy everything, then follow the writes until Ctrl-C:
    redis-ferry sync redis://old.example:6379 redis://new.example:6379

  Copy once and end:
    redis-ferry sync --method full redis://old.example redis://new.example

  Load a dump file:
    redis-ferry sync file:dump.rdb redis://new.example
  Replay an append-only file (Redis 7: its folder):
    redis-ferry sync file:/var/lib/redis/appendonlydir redis://new.example

  Cut over in a script: end when the target has caught up.
    redis-ferry sync --exit-when-synced --progress json \\
        redis://old.example redis://new.example

  Some keys of one database, into another one under other names:
    redis-ferry sync --include-key 'shop:*' --exclude-key '*:tmp' \\
        --databases 0 --db-map 0:3 --key-prefix-add eu: \\
        redis://old.example redis://new.example

  A user, the password from a file, TLS with one's own CA, 50 MB/s at most:
    redis-ferry sync --source-password-file /run/secrets/old \\
        --source-tls-ca ca.pem --bandwidth-limit-mb 50 \\
        rediss://ferry@old.example redis://new.example

  Into a cluster; end at the first command over several slots that can't
  be split, instead of fetching what it made from the source:
    redis-ferry sync --on-cross-slot stop redis://old.example \\
        redis://node1.example,node2.example

  The same from a file (source = "rediss://…", bandwidth_limit_mb = 50, …):
    redis-ferry sync --config ferry.toml

{EXIT_STATUSES}"""

INSPECT = (
    "Say what is in an RDB file or in a server: keys and bytes by type, encoding, database and prefix, expiries, the "
    "biggest keys, versions and modules. A server is asked for a snapshot as a replica asks for it; nothing is written."
)

INSPECT_EPILOG = f"""\
[bold]Examples[/bold]
  redis-ferry inspect dump.rdb
  redis-ferry inspect redis://old.example --format stats --top 100
  redis-ferry inspect dump.rdb --format memory > memory.csv

{EXIT_STATUSES}"""

SERVE = (
    "Run many migrations in one process, driven over HTTP.\n\n"
    "Serves the DCS v2 data-migration API, so that the Huawei SDK, Terraform's provider and scripts written "
    "for Open Telekom Cloud work by changing the endpoint only. Tasks survive a stop, a crash and a restart "
    "of the service: running ones go on from their checkpoints.\n\n"
    "Every option can also be written as a variable (REDIS_FERRY_SERVE_LISTEN=…) or as a key of the --config "
    "file. SIGTERM stops gracefully. The API is described at /docs and /openapi.json."
)

SERVE_EPILOG = """\
[bold]Examples[/bold]
  For this machine alone:
    redis-ferry serve

  For others, with tokens and access keys (chmod 600 auth.toml) and TLS:
    redis-ferry serve --listen 0.0.0.0:8443 --auth-file auth.toml \\
        --tls-cert chain.pem --tls-key key.pem

  auth.toml:
    \\[\\[tokens]]
    token = "a long random text"
    project_id = "0123456789abcdef0123456789abcdef"
    \\[\\[keys]]
    access = "AKEXAMPLE"
    secret = "another long random text"
    project_id = "0123456789abcdef0123456789abcdef\""""

TASK = (
    "Drive the tasks of a running service (redis-ferry serve).\n\n"
    "Results go to stdout, as text or with --output json as one JSON value a line; errors go to stderr. Every "
    "option of the service can also be given as a variable: REDIS_FERRY_API_ENDPOINT, _PROJECT, _TOKEN, "
    "_TOKEN_FILE, _TLS_CA, and _ACCESS_KEY with _SECRET_KEY to sign requests instead of a token."
)

TASK_EPILOG = f"""\
[bold]Examples[/bold]
  ID=$(redis-ferry task create nightly)
  redis-ferry task configure $ID old.example:6379 new.example:6379 \\
      --source-password-file old.secret
  redis-ferry task watch $ID
  redis-ferry task stop --wait $ID && redis-ferry task delete $ID

{EXIT_STATUSES}"""

DEMO = (
    "Show a whole migration on this machine, in under a minute.\n\n"
    "Starts two servers on free ports in a temporary folder, fills the source, keeps writing to "
    "it, migrates full + incremental, compares every key on both sides, prints a report and stops "
    "everything it started."
)

CHECK = (
    "Look at SOURCE and TARGET as sync would, and say what is in its way.\n\n"
    "Permissions, versions, databases, modules, memory, backlog and buffers against the measured write rate, "
    "clocks, disk, keys and checkpoints on the target: a line each, ok, warning or refusal, with the "
    "command that mends it. Changes nothing on either side. sync does the same at its start, without "
    "measuring.\n\n"
    "Takes sync's options, from flags, variables and the --config file: see redis-ferry sync --help."
)

CHECK_EPILOG = """\
[bold]Examples[/bold]
  redis-ferry check redis://old.example:6379 redis://new.example:6379

  Measure the writes for half a minute, for a script:
    redis-ferry check --sample-seconds 30 --format json \\
        redis://old.example redis://new.example

[bold]Exit status[/bold]
    0  nothing in the way, or warnings only
    2  wrong usage or configuration
    3  a refusal: sync would not start"""

TASKS = (
    "What tasks have left on this machine and on a target: see it, change it, remove it.\n\n"
    "On this machine every task has a folder in the spool's folder; a running one has a control socket "
    "there. On the target it has a checkpoint. Give the target (--target, REDIS_FERRY_TARGET, or the "
    "--config file) to see and remove those too."
)

TASKS_EPILOG = """\
[bold]Examples[/bold]
  redis-ferry tasks list --target redis://new.example
  redis-ferry tasks set NAME --bandwidth-limit-mb 20
  redis-ferry tasks forget NAME --target redis://new.example

[bold]Exit status[/bold]
    0  done
    2  wrong usage or configuration, no such task
    3  refused or unreachable
    4  failed"""

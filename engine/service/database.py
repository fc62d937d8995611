"""Opening the store's database: SQLite in the state folder or PostgreSQL by URL, schema brought up to date.

One service owns one database: a second one that starts on it is refused, or both would run the same tasks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from engine.errors import ConfigError, install_hint

MIGRATIONS = Path(__file__).parent / "migrations"
LATEST_STEP = "0001"  # of migrations/versions
OWNER_LOCK = 0x7265_6469_7366  # PostgreSQL's advisory lock of this service
BUSY_TIMEOUT_MS = 5000
CONNECT_TIMEOUT_SECONDS = 10


@dataclass(slots=True)
class Database:
    """An open database that belongs to this process."""

    engine: AsyncEngine
    _lock_file: IO[str]
    _owner: AsyncConnection | None = None

    async def keep_ownership(self) -> bool:
        """Take the ownership again if the server has lost it with its connection; False if another has it now.

        Raises:
            DBAPIError, OSError: the server does not answer.
        """
        if self._owner is None:
            return True
        try:
            await self._owner.execute(text("SELECT 1"))
            await self._owner.commit()
        except (SQLAlchemyError, OSError):
            with contextlib.suppress(SQLAlchemyError, OSError):
                await self._owner.invalidate()
                await self._owner.close()
            try:
                self._owner = await _lock_postgres(self.engine)
            except ConfigError:
                return False
        return True

    async def close(self) -> None:
        """Close all connections and give up the ownership."""
        if self._owner is not None:
            with contextlib.suppress(SQLAlchemyError, OSError):
                await self._owner.close()
        await self.engine.dispose()
        self._lock_file.close()


def sqlite_url(state_dir: Path) -> str:
    """The URL of the default store."""
    return f"sqlite+aiosqlite:///{state_dir / 'service.db'}"


async def open_database(url: str, *, state_dir: Path) -> Database:
    """Take the ownership, connect, run the schema's steps.

    url: `sqlite+aiosqlite:///path`, or `postgresql://user:password@host/name`.

    Raises:
        ConfigError: the URL, the folder or the database cannot be used, or another service owns it.
    """
    lock_file = _lock_folder(state_dir)
    try:
        engine = _engine_of(url)
        database = Database(engine, lock_file)
        try:
            if engine.dialect.name == "postgresql":
                database._owner = await _lock_postgres(engine)  # noqa: SLF001 - built in two steps
            async with engine.begin() as connection:
                await connection.run_sync(_upgrade)
        except (DBAPIError, OSError) as error:
            await database.close()
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise ConfigError(
                f"the store {_shown(url)} cannot be opened: {cause}",
                hint="check the URL, the server and the folder's permissions",
            ) from None
        except BaseException:
            await database.close()
            raise
    except BaseException:
        lock_file.close()
        raise
    return database


def _lock_folder(state_dir: Path) -> IO[str]:
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (state_dir / "service.lock").open("a", encoding="ascii")
    except OSError as error:
        raise ConfigError(
            f"the state folder {state_dir} cannot be used: {error.strerror}",
            hint="give one that this user may write with --state-dir",
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigError(
            f"another redis-ferry serve uses the state folder {state_dir}",
            hint="stop it, or give this one a folder of its own with --state-dir",
        ) from None
    return file


def _engine_of(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgres", "postgresql"}:
            parsed = parsed.set(drivername="postgresql+asyncpg")
        if parsed.drivername == "sqlite+aiosqlite":
            _make_private(parsed.database)
            engine = create_async_engine(parsed)
            event.listen(engine.sync_engine, "connect", _prepare_sqlite)
            return engine
        if parsed.drivername != "postgresql+asyncpg":
            raise ConfigError(
                f"the store cannot be of the kind {parsed.drivername}",
                hint="leave --database-url out for SQLite, or give postgresql://user@host/name",
            )
        return create_async_engine(
            parsed, pool_pre_ping=True, connect_args={"timeout": CONNECT_TIMEOUT_SECONDS}
        )
    except ArgumentError:
        # Its text quotes the URL, and with it a password.
        raise ConfigError(
            "the store's URL cannot be read", hint="write postgresql://user:password@host:5432/name"
        ) from None
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the store needs the package {error.name}",
            hint=install_hint("postgres"),
        ) from None


def _make_private(path: str | None) -> None:
    if path:
        with contextlib.suppress(OSError):  # connecting fails on the same, and says so
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # FULL: what a client was told has been done survives a power loss too.
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


async def _lock_postgres(engine: AsyncEngine) -> AsyncConnection:
    connection = await engine.connect()
    try:
        taken = await connection.scalar(
            text("SELECT pg_try_advisory_lock(:number)"), {"number": OWNER_LOCK}
        )
        await connection.commit()
    except SQLAlchemyError:
        await connection.close()
        raise
    if not taken:
        await connection.close()
        raise ConfigError(
            "another redis-ferry serve uses this database",
            hint="stop it, or give this one a database of its own with --database-url",
        )
    return connection


def _upgrade(connection: Connection) -> None:
    if _step_of(connection) == LATEST_STEP:
        return
    # Not needed at most starts, and as long to import as everything else about the store.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _step_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return str(connection.scalar(text("SELECT version_num FROM alembic_version")))


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)

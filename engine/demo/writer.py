"""A process that keeps writing: `python -m engine.demo.writer --host H --port P --rate N --seed S`.

On SIGTERM or SIGINT it takes the replies to what it has sent, prints one line of JSON and exits 0:
`{"commands": 81234, "transactions": 210, "popped": 97, "seconds": 10.2, "errors": {"NOGROUP": 3}}`.
When the server goes away or refuses a command the line has "failure" as well, and the exit is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from engine.demo.mix import Mix
from engine.demo.steps import BLOCKING_DB, BLOCKING_LISTS, BLOCKING_ZSETS, TOLERATED
from engine.demo.wire import Reply, ReplyError, Wire, WireError, pack
from engine.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

TICK_SECONDS = 0.005
UNPACED_BURST_COMMANDS = 400
LONGEST_BURST_COMMANDS = 2000
BLOCK_SECONDS = b"0.2"
BLOCK_SECONDS_BEFORE_6_0 = b"1"
KEYS_OF_A_KIND = 300


@dataclass(slots=True)
class WorkloadReport:
    """What a workload did.

    commands: sent and answered, those inside transactions and of the blocking connection included.
    popped: blocking pops that got something. errors: tolerated error replies by their first word.
    """

    commands: int = 0
    transactions: int = 0
    popped: int = 0
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)


class Workload:
    """A mixed write load on one server, over two connections. `report` may be read while it runs.

    rate: commands a second, 0 for as many as go. keys: names of each kind in each database; few of
    them make for many changes to each. functions: None for where the server has them. field_ttls:
    HPEXPIRE too, for servers that have it. whole_databases: FLUSHDB and SWAPDB too.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        rate: int = 0,
        seed: int = 1,
        keys: int = KEYS_OF_A_KIND,
        functions: bool | None = None,
        field_ttls: bool = False,
        whole_databases: bool = False,
    ) -> None:
        self.report = WorkloadReport()
        self._endpoint = endpoint
        self._rate = rate
        self._seed = seed
        self._keys = keys
        self._functions = functions
        self._field_ttls = field_ttls
        self._whole_databases = whole_databases
        self._errors: Counter[str] = Counter()

    def run(self, stop: threading.Event, *, max_commands: int | None = None) -> WorkloadReport:
        """Write until `stop` is set or about `max_commands` have been sent; return the report.

        Everything sent has been answered on return. Not to be called twice.

        Raises:
            OSError: the connection broke. WireError: the server refused a command.
        """
        began = time.monotonic()
        popping = threading.Event()
        popping.set()
        with Wire(self._endpoint) as wire:
            mix = self._mix(wire)
            popper = _Popper(self._endpoint, mix.has_blocking_moves, popping)
            popper.start()
            try:
                self._write(wire, mix, stop, max_commands, began)
            finally:
                popping.clear()
                popper.join()
                self.report.commands += popper.commands
                self.report.popped = popper.popped
                self.report.seconds = round(time.monotonic() - began, 3)
                self.report.errors = dict(self._errors)
        if popper.failure is not None:
            raise popper.failure
        return self.report

    def _mix(self, wire: Wire) -> Mix:
        has_copy, has_functions = map(bool, wire.ask("COMMAND", "INFO", "COPY", "FCALL"))
        return Mix(
            random.Random(self._seed),
            keys=self._keys,
            since_6_2=has_copy,
            claims=has_functions,  # 7.0 too
            functions=has_functions if self._functions is None else self._functions,
            field_ttls=self._field_ttls,
            whole_databases=self._whole_databases,
        )

    def _write(
        self,
        wire: Wire,
        mix: Mix,
        stop: threading.Event,
        max_commands: int | None,
        began: float,
    ) -> None:
        on_the_way = _Burst()
        sent = 0
        while not stop.is_set() and (max_commands is None or sent < max_commands):
            if self._rate:
                due = int((time.monotonic() - began) * self._rate) - sent
                if due <= 0:
                    stop.wait(TICK_SECONDS)  # the pace; ends at once when stopped
                    continue
                burst = _Burst.make(mix, min(due, LONGEST_BURST_COMMANDS))
            else:
                burst = _Burst.make(mix, UNPACED_BURST_COMMANDS)
            wire.send(burst.packed)
            sent += burst.commands
            # The replies of the burst before: the server works on this one meanwhile.
            self._take(wire, mix, on_the_way)
            on_the_way = burst
        self._take(wire, mix, on_the_way)

    def _take(self, wire: Wire, mix: Mix, burst: _Burst) -> None:
        replies = list(wire.replies(burst.commands))
        for reply in replies:
            if isinstance(reply, ReplyError):
                self._tolerate(reply)
        for at in burst.transactions:
            for reply in replies[at]:
                if isinstance(reply, ReplyError):
                    self._tolerate(reply)
        for at, db, key in burst.added:
            mix.learn_id(db, key, replies[at])
        self.report.commands += burst.commands
        self.report.transactions += len(burst.transactions)

    def _tolerate(self, error: Reply) -> None:
        text = str(error)
        if not text.startswith(TOLERATED):
            raise WireError(text)
        self._errors[text.split(maxsplit=1)[0]] += 1


@dataclass(slots=True)
class _Burst:
    """Commands sent together. transactions: the indexes of EXECs. added: see Mix."""

    packed: bytes = b""
    commands: int = 0
    transactions: list[int] = field(default_factory=list)
    added: list[tuple[int, int, bytes]] = field(default_factory=list)

    @classmethod
    def make(cls, mix: Mix, commands: int) -> _Burst:
        """Take steps until there are `commands`, or a few more as a step is never cut."""
        while len(mix.commands) < commands:
            mix.step()
        made = cls(
            b"".join(map(pack, mix.commands)),
            len(mix.commands),
            [at for at, command in enumerate(mix.commands) if command[0] == b"EXEC"],
            mix.added,
        )
        mix.commands, mix.added = [], []
        return made


class _Popper(threading.Thread):
    """The second connection: waits in blocking pops for what the first one feeds."""

    def __init__(self, endpoint: Endpoint, since_6_2: bool, going: threading.Event) -> None:
        super().__init__(name="workload-popper")
        self.commands = 0
        self.popped = 0
        self.failure: OSError | WireError | None = None
        self._wire = Wire(endpoint, db=BLOCKING_DB)
        self._going = going
        a, b, c = BLOCKING_LISTS
        seconds = BLOCK_SECONDS if self._wire.version() >= (6, 0) else BLOCK_SECONDS_BEFORE_6_0
        self._round: list[tuple[bytes, ...]] = [
            (b"BLPOP", a, b, seconds),
            (b"BRPOPLPUSH", c, a, seconds),
            (b"BZPOPMIN", *BLOCKING_ZSETS, seconds),
            (b"BRPOP", b, a, seconds),
        ]
        if since_6_2:
            self._round.append((b"BLMOVE", c, b, b"RIGHT", b"LEFT", seconds))

    def run(self) -> None:
        """Pop until told to end; at most BLOCK_SECONDS longer."""
        try:
            while self._going.is_set():
                for command in self._round:
                    self.popped += self._wire.ask(*command) is not None
                    self.commands += 1
        except (OSError, WireError) as error:
            self.failure = error
        finally:
            self._wire.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a workload until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m engine.demo.writer", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--unix", metavar="PATH", help="a unix socket, instead of host and port")
    parser.add_argument("--password")
    parser.add_argument("--rate", type=int, default=1000, help="commands a second; 0: no limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", type=int, default=KEYS_OF_A_KIND, help="names of each kind")
    parser.add_argument("--max-commands", type=int, help="end after about so many")
    parser.add_argument("--no-functions", action="store_true", help="no FUNCTION LOAD, no FCALL")
    parser.add_argument("--field-ttls", action="store_true", help="HPEXPIRE too")
    parser.add_argument("--whole-databases", action="store_true", help="FLUSHDB and SWAPDB too")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    workload = Workload(
        Endpoint(
            host=options.host,
            port=options.port,
            unix_path=options.unix,
            password=options.password,
        ),
        rate=options.rate,
        seed=options.seed,
        keys=options.keys,
        functions=False if options.no_functions else None,
        field_ttls=options.field_ttls,
        whole_databases=options.whole_databases,
    )
    failure: dict[str, str] = {}

    def run() -> None:
        try:
            workload.run(stop, max_commands=options.max_commands)
        except (OSError, WireError) as error:
            failure["failure"] = f"{type(error).__name__}: {error}"

    # Not in the main thread: a signal handler there may interrupt Event.wait while that holds the
    # lock which Event.set needs.
    writing = threading.Thread(target=run, name="workload")
    writing.start()
    writing.join()
    print(json.dumps({**asdict(workload.report), **failure}), flush=True)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())

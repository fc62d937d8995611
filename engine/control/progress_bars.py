"""`--progress auto` on a terminal: a bar for the snapshot, a line for the stream."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from engine.control.wording import Pace, snapshot_facts, stream_facts
from engine.quantities import duration
from engine.supervision.status import TaskStatus


class Bars:
    """Draws on stderr; log lines appear above."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._pace = Pace()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(show_speed=False),
            TextColumn("{task.fields[facts]}", markup=False),
            console=console,
            auto_refresh=False,
        )
        self._bar = self._progress.add_task("snapshot", total=100.0, facts="")
        self._line = Text(no_wrap=True, overflow="ellipsis")
        # auto_refresh would start a thread of its own; statuses come often enough.
        self._live = Live(
            Group(self._progress, self._line),
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=True,
        )
        self._live.start()

    def show(self, status: TaskStatus) -> None:
        """Draw the status."""
        self._pace.take(status)
        if status.phase == "snapshot":
            # A source without a disk file does not say how much is to come: the bar only moves.
            is_unknown = status.snapshot_bytes_total == 0 and status.full_migration_progress == 0
            facts = snapshot_facts(status)
            if self._pace.eta_seconds is not None:
                facts += f", {duration(self._pace.eta_seconds)} left"
            self._progress.update(
                self._bar,
                total=None if is_unknown else 100.0,
                completed=status.full_migration_progress,
                facts=facts,
            )
        elif status.full_migration_progress >= 100.0:
            facts = f"{status.keys_applied:,} keys"
            self._progress.update(self._bar, total=100.0, completed=100.0, facts=facts)
        self._line.plain = self._describe(status)
        self._live.refresh()

    def _describe(self, status: TaskStatus) -> str:
        text = status.state
        if status.phase == "stream":
            text += f"   {stream_facts(status, self._pace)}"
        if status.reconnects:
            text += f"   reconnects: {status.reconnects}"
        return text

    def close(self, status: TaskStatus) -> None:
        """Leave the last picture standing."""
        try:
            self.show(status)
        finally:
            self._live.stop()

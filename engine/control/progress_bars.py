"""`--progress auto` on a terminal: a bar for the snapshot, a line for the stream."""

from __future__ import annotations

import io
import sys

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from engine.control.wording import Pace, is_moving, snapshot_facts, stream_facts
from engine.quantities import duration
from engine.supervision.status import TaskStatus


class Bars:
    """Draws on stderr; what is written to sys.stderr meanwhile appears above."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(
            file=sys.stderr
        )  # this one, not what stands in its place below
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
        # auto_refresh would start a thread of its own; statuses come often enough. rich's own redirection
        # breaks lines at the terminal's width.
        self._live = Live(
            Group(self._progress, self._line),
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        self._stderr, sys.stderr = sys.stderr, LinesAbove(console)

    def show(self, status: TaskStatus) -> None:
        """Draw the status."""
        self._pace.take(status)
        self._draw(status, has_rates=is_moving(status))

    def _draw(self, status: TaskStatus, *, has_rates: bool) -> None:
        if status.phase == "snapshot":
            # A source without a disk file does not say how much is to come: the bar only moves.
            is_unknown = status.snapshot_bytes_total == 0 and status.full_migration_progress == 0
            facts = snapshot_facts(status, has_rates=has_rates)
            if has_rates and self._pace.eta_seconds is not None:
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
        self._line.plain = self._describe(status, has_rates=has_rates)
        self._live.refresh()

    def _describe(self, status: TaskStatus, *, has_rates: bool) -> str:
        text = status.state
        if status.phase == "stream":
            text += f"   {stream_facts(status, self._pace, has_rates=has_rates)}"
        if status.reconnects:
            text += f"   reconnects: {status.reconnects}"
        return text

    def close(self, status: TaskStatus) -> None:
        """Leave the last picture standing, without the rates of a moment that is over."""
        try:
            self._draw(status, has_rates=False)
        finally:
            sys.stderr = self._stderr
            self._live.stop()


class LinesAbove(io.TextIOBase):
    """A sys.stderr whose lines stand above the bars, each as long as it is: the terminal breaks it, not we."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = ""

    def write(self, text: str) -> int:
        """Print the lines that are whole; keep the rest until its end comes."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)
        return len(text)

    def flush(self) -> None:
        """Print what has no line end yet."""
        if self._begun:
            self.write("\n")

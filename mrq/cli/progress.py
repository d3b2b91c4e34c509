"""How far a job is: a live display in a terminal, a line every few seconds elsewhere.

The display never hides the cursor and leaves it below its last line after every frame, at the start of a
line: however the program ends, kill -9 included, the terminal is as it was. A frame is one write; a line is
overwritten and its rest erased, so nothing flickers.
"""

from __future__ import annotations

import collections
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mrq.cli import units
from mrq.cli.console import Console
from mrq.core.info import JobInfo, StageInfo
from mrq.core.model import JobState

if TYPE_CHECKING:
    from rich.text import Text

_LOG: Final = logging.getLogger(__name__)

REDRAW_S: Final = 0.2
#: A job that is done before it gets no display at all.
FIRST_FRAME_S: Final = 0.4
PLAIN_S: Final = 3.0
#: Rates are over the last seconds, not since the start.
_WINDOW_S: Final = 5.0
_BAR: Final = 28
_BAR_MIN: Final = 8
#: Columns of a stage's name, at least.
_NAMES: Final = 7


def stages_of(info: JobInfo | None) -> list[StageInfo]:
    """What is shown of a job: its stages, and the commit where it has come to that. Empty as long as there is
    nothing to show."""
    if info is None:
        return []
    stages = list(info.stages)
    if info.state in (JobState.COMMITTING, JobState.DONE):
        done = info.state is JobState.DONE
        stages.append(
            StageInfo(
                name="commit", total=1, completed=int(done), attempts=int(not done), fraction=float(done)
            )
        )
    return stages


class Meter:
    """Rates and the time left of one stage."""

    def __init__(self) -> None:
        self._samples: collections.deque[tuple[float, int, int]] = collections.deque()
        self._began: tuple[float, float] | None = None  # (when, fraction) at the first running task
        self._ended: float | None = None
        self._last: tuple[float, float] = (0.0, 0.0)

    def add(self, stage: StageInfo, now: float) -> None:
        """Note where the stage is at `now` (seconds, monotonic)."""
        if self._began is None:
            if not (stage.attempts or stage.completed):
                return
            self._began = (now, stage.fraction)
        if stage.complete:
            self._ended = now if self._ended is None else self._ended
        else:
            self._ended = None
        self._last = (now, stage.fraction)
        samples = self._samples
        if samples and (stage.records_in < samples[-1][1] or stage.bytes_in < samples[-1][2]):
            samples.clear()  # an attempt was lost, and what it had read is read again
        samples.append((now, stage.records_in, stage.bytes_in))
        while len(samples) > 2 and samples[1][0] <= now - _WINDOW_S:
            samples.popleft()

    def rates(self) -> tuple[float, float]:
        """(records, bytes) a second; zeros as long as there is too little to say."""
        if len(self._samples) < 2:
            return 0.0, 0.0
        (t0, r0, b0), (t1, r1, b1) = self._samples[0], self._samples[-1]
        if t1 - t0 < 0.15:
            return 0.0, 0.0
        return (r1 - r0) / (t1 - t0), (b1 - b0) / (t1 - t0)

    def left_s(self) -> float | None:
        """Seconds left, from the pace since the stage began; None while that would be a guess."""
        if self._began is None:
            return None
        elapsed, made = self._last[0] - self._began[0], self._last[1] - self._began[1]
        if elapsed < 1.0 or made < 0.01 or self._last[1] >= 1.0:  # all is read: what follows isn't measured
            return None
        return (1.0 - self._last[1]) * elapsed / made

    def seconds(self) -> float:
        """How long the stage has been running, or ran."""
        if self._began is None:
            return 0.0
        return (self._last[0] if self._ended is None else self._ended) - self._began[0]


def stage_line(
    stage: StageInfo, meter: Meter, width: int, *, unicode: bool = True, names: int = _NAMES
) -> Text:
    """One stage as one line of at most `width` columns; what matters least is left out first. `names`: the
    columns of its name."""
    from rich.text import Text

    name, counts = Text(stage.label, "bold"), f" {stage.completed:,}/{stage.total:,}"
    name.pad_right(max(0, names - name.cell_len))
    room = width - name.cell_len - len(counts)
    chosen: list[tuple[int, tuple[str, str]]] = []
    for order, text, style in _extras(stage, meter):
        if len(text) + 2 <= room:
            chosen.append((order, (f"  {text}", style)))
            room -= len(text) + 2
    bar = Text()
    if room >= _BAR_MIN + 1:
        full, empty = ("█", "░") if unicode else ("#", ".")
        length = min(_BAR, room - 1)
        filled = length if stage.complete else min(length - 1, int(stage.fraction * length))
        bar = Text.assemble(" ", (full * filled, "green"), (empty * (length - filled), "dim"))
    line = Text.assemble(name, bar, counts, *(span for _, span in sorted(chosen, key=lambda pair: pair[0])))
    line.truncate(width)
    return line


def _extras(stage: StageInfo, meter: Meter) -> list[tuple[int, str, str]]:
    """(place in the line, text, style), the most important first."""
    extras: list[tuple[int, str, str]] = []
    if stage.failed:
        extras.append((1, f"{stage.failed:,} failed", "red"))
    if stage.complete:
        if stage.records_in:
            extras.append((2, f"{units.count(stage.records_in)} records", "dim"))
            extras.append((3, units.size(stage.bytes_in), "dim"))
        if meter.seconds() >= 0.05:  # else it came and went between two looks
            extras.append((4, units.duration(meter.seconds()), "dim"))
        return extras
    left, (records, size) = meter.left_s(), meter.rates()
    if left is not None:
        extras.append((4, f"{units.clock(left)} left", "cyan"))
    if stage.attempts:
        extras.append((0, f"{stage.attempts:,} running", ""))
    if stage.records_in:  # what running attempts have read counts: one map of minutes moves
        extras.append((2, f"{units.count(stage.records_in)} records", ""))
    if size:
        extras.append((3, f"{units.size(size)}/s", ""))
    if records:
        extras.append((2, f"{units.count(records)} records/s", ""))
    if stage.bytes_in:
        extras.append((3, units.size(stage.bytes_in), ""))
    return extras


def plain_line(stages: Sequence[StageInfo], meters: dict[str, Meter]) -> str:
    """The stage that is under way, for a log: `map 12/40 tasks, 2 running, 85.0 MiB/s, 0:12 left`."""
    stage = current(stages)
    parts = [f"{stage.label} {stage.completed:,}/{stage.total:,} tasks"]
    extras = sorted(_extras(stage, meters[stage.label]), key=lambda extra: extra[0])
    return ", ".join(parts + [text for _, text, _ in extras])


def current(stages: Sequence[StageInfo]) -> StageInfo:
    """The first stage that isn't complete, or the last."""
    return next((stage for stage in stages if not stage.complete), stages[-1])


class Progress:
    """Shows snapshots of a job as they are handed in; decides itself when it is time to draw."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._meters: dict[str, Meter] = {}
        self._drawn: list[int] = []  # columns of the lines on the screen
        self._stages: Sequence[StageInfo] = ()
        live = console.terminal.live
        self._interval = REDRAW_S if live else PLAIN_S
        self._next = clock() + (FIRST_FRAME_S if live else PLAIN_S)
        console.before_line = self.clear

    def update(self, stages: Sequence[StageInfo]) -> None:
        """Take in where the job is, and draw if it is time."""
        if not stages or self._console.level > logging.INFO:
            return
        now = self._clock()
        self._stages = stages
        for stage in stages:
            self._meters.setdefault(stage.label, Meter()).add(stage, now)
        if now >= self._next:
            self._next = now + self._interval
            with self._console.held():
                self._draw()

    def last(self, stages: Sequence[StageInfo]) -> None:
        """Take in how the job ended, and draw it where there is a display."""
        if self._drawn and stages:
            self._next = 0.0
            self.update(stages)

    def finish(self) -> None:
        """Leave what was drawn last where it is; what follows is printed below."""
        with self._console.held():
            self._drawn = []
            self._console.before_line = None
        self._next = float("inf")

    def _draw(self) -> None:
        terminal = self._console.terminal
        if not terminal.live:
            _LOG.info(plain_line(self._stages, self._meters))
            return
        columns, rows = terminal.size()
        width = max(1, columns - 1)  # a full line would wrap on some terminals
        shown = self._stages if rows > len(self._stages) + 1 else [current(self._stages)]
        names = max(_NAMES, *(len(stage.label) + 1 for stage in shown))
        lines = [
            stage_line(stage, self._meters[stage.label], width, unicode=terminal.unicode, names=names)
            for stage in shown
        ]
        frame = "".join(f"{line}\x1b[K\n" for line in terminal.draw(*lines, width=width))
        self._console.write(f"{self._up()}{frame}\x1b[J")
        self._drawn = [line.cell_len for line in lines]

    def clear(self) -> None:
        """Take the display off the screen; the next frame puts it below what was printed."""
        if self._drawn:
            self._console.write(self._up() + "\x1b[J")
            self._drawn = []

    def _up(self) -> str:
        """To the first line of the frame on the screen, which may have wrapped since it was drawn."""
        columns = max(1, self._console.terminal.size()[0])
        rows = sum(max(1, -(-length // columns)) for length in self._drawn)
        return f"\r\x1b[{rows}A" if rows else ""

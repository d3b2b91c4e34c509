"""The display on a small terminal that does what terminals do, under a clock that the test moves."""

import io
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.cli import progress
from mrq.cli.console import Console
from mrq.cli.progress import Meter, Progress, plain_line, stage_line, stages_of
from mrq.core.info import JobInfo, StageInfo
from mrq.core.model import JobState


class Screen(io.StringIO):
    """A terminal: text, newline, carriage return, cursor up, erase to the end of the line or screen."""

    encoding = "utf-8"

    def __init__(self, columns=80, rows=24):
        super().__init__()
        self.columns, self.rows = columns, rows
        self.lines, self.row, self.column = [""], 0, 0
        self.raw = ""

    def isatty(self):
        return True

    def fileno(self):
        raise OSError("not a real one")

    def write(self, text):
        self.raw += text
        for token in re.findall(r"\x1b\[\d*[A-Za-z]|\x1b\[[\d;]*m|[^\x1b]", text):
            self._act(token)
        return len(text)

    def _act(self, token):
        line = self.lines[self.row]
        if token.endswith("A") and token.startswith("\x1b"):
            self.row = max(0, self.row - int(token[2:-1] or 1))
        elif token == "\x1b[K":
            self.lines[self.row] = line[: self.column]
        elif token == "\x1b[J":
            self.lines[self.row] = line[: self.column]
            del self.lines[self.row + 1 :]
        elif token.startswith("\x1b"):
            assert token.endswith("m"), token
        elif token == "\r":
            self.column = 0
        elif token == "\n":
            self._down()
        else:
            if self.column == self.columns:
                self._down()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + token + line[self.column + 1 :]
            self.column += 1

    def _down(self):
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")

    def resize(self, columns):
        """As terminals do that reflow: long lines wrap."""
        wrapped, row = [], 0
        for number, line in enumerate(self.lines):
            if number == self.row:
                row = len(wrapped)
            wrapped += [line[i : i + columns] for i in range(0, max(1, len(line)), columns)]
        self.columns, self.lines, self.row, self.column = columns, wrapped, row, 0

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def terminal(columns=80, rows=24, **environ):
    screen = Screen(columns, rows)
    console = Console(screen, environ={"TERM": "xterm", **environ})
    console.terminal.size = lambda: (screen.columns, screen.rows)
    return screen, console


def say(console, text):
    console.handle(logging.makeLogRecord({"msg": text}))


def stages(done=3, reduce=0, **more):
    at = {"attempts": 2, "fraction": done / 10, "records_in": done * 1000, "bytes_in": done << 20, **more}
    return [
        StageInfo(name="map", total=10, completed=done, **at),
        StageInfo(name="reduce", total=4, completed=reduce),
    ]


def test_a_short_job_gets_no_display():
    screen, console = terminal()
    clock = Clock()
    shown = Progress(console, clock=clock)
    for _ in range(3):
        shown.update(stages())
        clock.now += 0.1
    shown.finish()
    assert screen.raw == ""


def test_frames_overwrite_each_other_and_the_last_one_stays():
    screen, console = terminal()
    clock = Clock()
    shown = Progress(console, clock=clock)
    for done in range(1, 11):
        clock.now += 0.5
        shown.update(stages(done))
    shown.finish()
    say(console, "done")
    assert [line.split()[0] for line in screen.text.splitlines()] == ["map", "reduce", "done"]
    assert "10/10" in screen.lines[0]
    assert "0/4" in screen.lines[1]


def test_the_end_is_drawn_where_there_is_a_display():
    screen, console = terminal()
    shown = Progress(console, clock=(clock := Clock()))
    shown.last(stages(10, 4))
    assert screen.raw == ""
    clock.now += 1
    shown.update(stages(3))
    shown.last(stages(10, 4))
    assert "10/10" in screen.lines[0]
    assert "4/4" in screen.lines[1]


def test_it_redraws_five_times_a_second_at_most():
    screen, console = terminal()
    clock = Clock()
    shown = Progress(console, clock=clock)
    for step in range(100):
        clock.now = 101 + step * 0.01
        shown.update(stages())
    assert 4 <= screen.raw.count("\x1b[J") <= 6


def test_rates_and_time_left():
    screen, console = terminal(columns=120)
    clock = Clock()
    shown = Progress(console, clock=clock)
    for done in range(6):
        shown.update(stages(done))
        clock.now += 1.0
    assert "1.0k records/s" in screen.text
    assert "1.0 MiB/s" in screen.text
    assert "0:05 left" in screen.text
    assert "2 running" in screen.text


def test_failed_attempts_are_shown():
    screen, console = terminal()
    clock = Clock()
    shown = Progress(console, clock=clock)
    clock.now += 1
    shown.update(stages(failed=2))
    assert "2 failed" in screen.text


def test_a_line_printed_meanwhile_stands_above_the_display():
    screen, console = terminal()
    clock = Clock()
    shown = Progress(console, clock=clock)
    clock.now += 1
    shown.update(stages())
    say(console, "note: something")
    clock.now += 1
    shown.update(stages(4))
    assert [line.split()[0] for line in screen.text.splitlines()] == ["note:", "map", "reduce"]


def test_a_terminal_made_narrower_keeps_no_remains():
    screen, console = terminal(columns=80)
    clock = Clock()
    shown = Progress(console, clock=clock)
    clock.now += 1
    shown.update(stages())
    screen.resize(30)
    clock.now += 1
    shown.update(stages(4))
    assert [line.split()[0] for line in screen.text.splitlines()] == ["map", "reduce"]
    assert all(len(line) < 30 for line in screen.lines)


def test_a_flat_terminal_shows_the_current_stage_only():
    screen, console = terminal(rows=2)
    clock = Clock()
    shown = Progress(console, clock=clock)
    clock.now += 1
    shown.update(stages())
    assert [line.split()[0] for line in screen.text.splitlines()] == ["map"]


def test_the_cursor_is_never_hidden_and_always_at_a_line_of_its_own():
    screen, console = terminal()
    clock = Clock()
    shown = Progress(console, clock=clock)
    for done in range(5):
        clock.now += 1
        shown.update(stages(done))
        assert screen.column == 0
        assert screen.row == 2
    assert "\x1b[?" not in screen.raw


def test_no_color_is_respected():
    screen, console = terminal(NO_COLOR="1")
    shown = Progress(console, clock=(clock := Clock()))
    clock.now += 1
    shown.update(stages())
    assert "map" in screen.text
    assert not re.search(r"\x1b\[[\d;]*m", screen.raw)


def test_colours_are_ended():
    screen, console = terminal()
    shown = Progress(console, clock=(clock := Clock()))
    clock.now += 1
    shown.update(stages())
    assert screen.raw.count("\x1b[0m") == len(re.findall(r"\x1b\[[1-9][\d;]*m", screen.raw)) > 0


def test_elsewhere_a_plain_line_every_few_seconds():
    stream = io.StringIO()
    console = Console(stream, environ={"TERM": "xterm"})
    shown = Progress(console, clock=(clock := Clock()))
    with console.listening():
        for step in range(130):
            clock.now = 100 + step * 0.1
            shown.update(stages(step // 13))
        shown.finish()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("map 2/10 tasks, 2 running, ")
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("tty", [True, False])
def test_quiet_shows_nothing(tty):
    screen, console = terminal()
    console.show(quiet=True)
    console.terminal.live = tty
    shown = Progress(console, clock=(clock := Clock()))
    for _ in range(20):
        clock.now += 1
        shown.update(stages())
    shown.finish()
    assert screen.raw == ""


def test_a_dumb_terminal_is_no_live_one():
    assert not Console(Screen(), environ={"TERM": "dumb"}).terminal.live
    assert not Console(Screen(), environ={}).terminal.live


@given(
    st.integers(1, 200),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from(["map", "reduce", "词频统计", "🎉e\u0301", "a-long-name-of-a-stage"]),
)
def test_no_line_is_wider_than_the_terminal(width, total, failed, fraction, unicode, name):
    stage = StageInfo(
        name=name, total=total, completed=int(total * fraction), attempts=3, failed=failed,
        fraction=fraction, records_in=10**9, bytes_in=10**12,
    )  # fmt: skip
    meter = Meter()
    for step in range(4):
        meter.add(
            StageInfo(name="reduce", total=total, attempts=1, fraction=fraction * step / 4), float(step)
        )
    line = stage_line(stage, meter, width, unicode=unicode)
    assert 0 < line.cell_len <= width
    assert unicode or not name.isascii() or line.plain.isascii()


def test_lost_work_gives_no_negative_rates():
    meter = Meter()
    for now, records in ((0.0, 0), (1.0, 1000), (2.0, 400), (3.0, 900)):
        meter.add(StageInfo(name="map", total=2, attempts=1, records_in=records, bytes_in=records), now)
    assert meter.rates() == (500.0, 500.0)


def test_a_finished_stage_keeps_the_time_that_it_took():
    meter = Meter()
    meter.add(StageInfo(name="map", total=1, attempts=1), 10.0)
    meter.add(StageInfo(name="map", total=1, completed=1, fraction=1.0), 14.0)
    meter.add(StageInfo(name="map", total=1, completed=1, fraction=1.0), 60.0)
    assert meter.seconds() == 4.0


def test_what_follows_when_all_is_read_has_no_time_left():
    meter = Meter()
    meter.add(StageInfo(name="map", total=1, attempts=1), 10.0)
    meter.add(StageInfo(name="map", total=1, attempts=1, fraction=0.5), 14.0)
    assert meter.left_s() == 4.0
    meter.add(StageInfo(name="map", total=1, attempts=1, fraction=1.0), 18.0)
    assert meter.left_s() is None


def test_the_current_stage_is_the_first_that_is_not_complete():
    a, b = StageInfo(name="map", total=0), StageInfo(name="reduce", total=2, completed=1)
    assert progress.current([a, b]) is b
    assert progress.current([a]) is a


def test_what_a_running_map_has_read_is_shown_before_it_is_done():
    stage = StageInfo(name="map", total=1, attempts=1, fraction=0.25, records_in=1234, bytes_in=5 << 20)
    meter = Meter()
    meter.add(stage, 1.0)
    line = stage_line(stage, meter, 79).plain
    assert " 0/1 " in line
    for shown in ("1 running", "1.2k records", "5.0 MiB"):
        assert shown in line
        assert shown in progress.plain_line([stage], {"map": meter})


def info(state=JobState.RUNNING, *names):
    return JobInfo(state=state, stages=tuple(StageInfo(name=name, total=1) for name in names))


def test_a_jobs_stages_are_shown_and_its_commit_when_it_has_come_to_that():
    def names(*at):
        return [stage.name for stage in stages_of(info(*at))]

    assert stages_of(None) == []
    assert names(JobState.RUNNING, "map", "reduce") == ["map", "reduce"]
    assert names(JobState.RUNNING, "map") == ["map"]
    assert names(JobState.COMMITTING, "map") == names(JobState.DONE, "map") == ["map", "commit"]
    assert names(JobState.FAILED, "map") == ["map"]
    commit = stages_of(info(JobState.COMMITTING, "map"))[-1]
    assert (commit.completed, commit.attempts, commit.complete) == (0, 1, False)
    assert stages_of(info(JobState.DONE, "map"))[-1].complete


def test_each_of_several_stages_has_its_own_line_and_pace() -> None:
    first = StageInfo(name="map", total=2, completed=2, stage=1)
    second = StageInfo(name="map", total=4, stage=2)
    assert (first.label, second.label, StageInfo(name="map").label) == ("map 1", "map 2", "map")
    meters = {"map 1": Meter(), "map 2": Meter()}
    assert plain_line([first, second], meters) == "map 2 0/4 tasks"
    lines = [stage_line(each, Meter(), 60, names=9).plain for each in (first, second)]
    assert [line[:9] for line in lines] == ["map 1    ", "map 2    "]
    assert [line.split()[-1] for line in lines] == ["2/2", "0/4"]

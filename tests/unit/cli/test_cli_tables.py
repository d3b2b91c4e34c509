"""Tables that fit their terminal: ids whole, the widest column gives way, colours only on a terminal."""

import io

import pytest

from mrq.cli import units
from mrq.cli.console import Console
from mrq.cli.tables import Page, cut, fitted


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True

    def fileno(self):
        raise OSError("no real one")


def written(page, capfdbinary):
    page.write()
    return capfdbinary.readouterr().out.decode()


def test_the_widest_columns_give_way_but_never_the_first():
    assert fitted([30, 40, 10], 80) == [30, 36, 10]
    assert fitted([70, 20, 20], 80) == [70, 6, 6]
    assert fitted([90], 80) == [90]
    assert fitted([5, 5], 80) == [5, 5]
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"


def test_a_table_aligns_drops_empty_columns_and_hides_control_characters(capfdbinary):
    page = Page(Console(io.StringIO(), environ={}))
    page.table(
        ("JOB", "N", "NONE", "OUT"), [("a", "5", "", "x\x1b[31m"), ("bcd", "1,000", "", "y\nz")], right=("N",)
    )
    page.facts([("job", "a"), ("nothing", ""), ("long name", "b")])
    assert written(page, capfdbinary).splitlines() == [
        "JOB      N  OUT",
        "a        5  x\\x1b[31m",
        "bcd  1,000  y z",
        "job        a",
        "long name  b",
    ]


def test_a_table_fits_a_terminal_and_is_whole_elsewhere(capfdbinary):
    row = ("a-job-0123456789", "x" * 200)
    for stream, least in ((Terminal(), 80), (io.StringIO(), 218)):
        page = Page(Console(stream, environ={"TERM": "xterm", "NO_COLOR": "1"}))
        page.table(("JOB", "OUT"), [row])
        assert max(map(len, written(page, capfdbinary).splitlines())) == least


def test_states_have_colours_on_a_terminal_only(capfdbinary):
    page = Page(Console(Terminal(), environ={"TERM": "xterm"}))
    page.table(("JOB", "STATE"), [("a", "failed")])
    assert "\x1b[31mfailed\x1b[0m" in written(page, capfdbinary)
    page = Page(Console(Terminal(), environ={"TERM": "xterm", "NO_COLOR": "1"}))
    page.table(("JOB", "STATE"), [("a", "failed")])
    assert "\x1b" not in written(page, capfdbinary)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"),
        (0.44, "0.4s"),
        (42, "42s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "120m"),
        (7200, "2h"),
        (1e6, "12d"),
    ],
)
def test_ages_are_short(seconds, text):
    assert units.age(seconds) == text

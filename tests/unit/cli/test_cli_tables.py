"""Tables that fit their terminal: ids whole, the widest column gives way, colours only on a terminal."""

import io

import pytest

from mrq.cli import units
from mrq.cli.console import Terminal as Stream
from mrq.cli.tables import TextPage


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True

    def fileno(self):
        raise OSError("no real one")


def on_a_terminal(columns, **environ):
    stream = Stream(Terminal(), environ={"TERM": "xterm", **environ})
    stream.size = lambda: (columns, 24)
    return TextPage(stream)


def written(page, capfdbinary):
    page.write()
    return capfdbinary.readouterr().out.decode()


@pytest.mark.parametrize(
    ("widths", "made"),
    [((30, 40, 10), (30, 36, 10)), ((66, 20, 20), (66, 5, 5)), ((5, 5), (5, 5))],
)
def test_the_widest_columns_give_way_but_never_the_first(widths, made, capfdbinary):
    page = on_a_terminal(80, NO_COLOR="1")
    page.table("ABC"[: len(widths)], [["x" * width for width in widths]])
    row = written(page, capfdbinary).splitlines()[-1]
    assert tuple(map(len, row.split())) == made
    assert [cell.endswith("…") for cell in row.split()] == [a > b for a, b in zip(widths, made, strict=True)]


def test_a_terminal_that_is_too_narrow_shows_facts(capfdbinary):
    page = on_a_terminal(40, NO_COLOR="1")
    page.table(("JOB", "N", "OUT"), [("j" * 32, "5", "/data/out"), ("j-2", "7", "")], right=("N",))
    assert written(page, capfdbinary).splitlines() == [
        f"JOB  {'j' * 32}",
        "N    5",
        "OUT  /data/out",
        "",
        "JOB  j-2",
        "N    7",
        "",
    ]


#: As terminals show it, and the columns that it takes there.
WIDE = {"数据输出": 8, "🎉🎉": 4, "e\u0301te\u0301": 3, "ไทย": 3, "한글": 4, "plain": 5}


def test_columns_are_those_of_the_terminal_whatever_the_script(capfdbinary):
    page = TextPage(Stream(io.StringIO(), environ={}))
    page.table(("NAME", "N"), [(text, "1") for text in WIDE])
    lines = written(page, capfdbinary).splitlines()
    for line, (text, width) in zip(lines[1:], WIDE.items(), strict=True):
        assert line == text + " " * (8 - width) + "  1"


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_line_of_a_table_is_wider_than_its_terminal(columns, capfdbinary):
    from rich.cells import cell_len

    page = on_a_terminal(columns, NO_COLOR="1")
    page.table(("ID", "NAME", "MORE"), [("j-1", text * 30, text * 9) for text in WIDE])
    lines = written(page, capfdbinary).splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert len(lines) == 1 + len(WIDE)


def test_what_users_name_is_no_markup(capfdbinary):
    page = on_a_terminal(80)
    page.line("[red]a[/red] :smile:")
    page.facts([("job", "[bold]b[/bold]")])
    page.table(("A", "B"), [("[link=x]c[/link]", "[/]")])
    text = written(page, capfdbinary)
    for words in ("[red]a[/red] :smile:", "[bold]b[/bold]", "[link=x]c[/link]", "[/]"):
        assert words in text


def test_a_table_aligns_drops_empty_columns_and_hides_control_characters(capfdbinary):
    page = TextPage(Stream(io.StringIO(), environ={}))
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
        page = TextPage(Stream(stream, environ={"TERM": "xterm", "NO_COLOR": "1"}))
        page.table(("JOB", "OUT"), [row])
        assert max(map(len, written(page, capfdbinary).splitlines())) == least


def test_states_have_colours_on_a_terminal_only(capfdbinary):
    page = TextPage(Stream(Terminal(), environ={"TERM": "xterm"}))
    page.table(("JOB", "STATE"), [("a", "failed")])
    assert "\x1b[31mfailed\x1b[0m" in written(page, capfdbinary)
    page = TextPage(Stream(Terminal(), environ={"TERM": "xterm", "NO_COLOR": "1"}))
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

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.cli import units
from mrq.settings import checks


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("7d", 604800), (" 2H ", 7200), (".5", 0.5)],
)
def test_durations_are_read(text, seconds):
    assert checks.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "10 minutes", "1e3", "nan", "inf", "1,5"])
def test_other_words_are_no_durations(text):
    with pytest.raises(ValueError, match="a time such as"):
        checks.parse_duration(text)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (200 << 10, "200 KiB"),
        (1023 << 10, "1.0 MiB"),
        (5 << 40, "5.0 TiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_sizes(number, text):
    assert units.size(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (123_456, "123k"), (999_600, "1.0M"), (5e9, "5.0G")],
)
def test_counts(number, text):
    assert units.count(number) == text


@given(st.integers(0, 10**15 - 10**12))
def test_counts_and_sizes_stay_short(number):
    assert len(units.count(number)) <= 5
    assert len(units.size(number)) <= 8


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.123, "0.12 s"), (12.34, "12.3 s"), (185, "3 min 5 s"), (7500, "2 h 5 min"), (3 * 86400, "3 days")],
)
def test_durations_in_sentences(seconds, text):
    assert units.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0:00"), (7, "0:07"), (750, "12:30"), (11100, "3:05:00")])
def test_clock(seconds, text):
    assert units.clock(seconds) == text


def test_plural():
    assert [units.plural(n, "part") for n in (0, 1, 1200)] == ["0 parts", "1 part", "1,200 parts"]

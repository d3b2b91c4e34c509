"""Numbers as people write and read them: sizes, rates, counts and durations.

Sizes and times on the command line go by `parse_size` and `parse_duration` of `mrq.settings.job` (K, M, G
and T are powers of 1024, with or without `B` or `iB`); what is printed says so by its unit: KiB, MiB, GiB.
"""

from __future__ import annotations


def plural(number: int, noun: str, many: str = "") -> str:
    """`1 record`, `1,200 records`."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def size(number: float) -> str:
    """`999 B`, `1.5 MiB`: bytes in powers of 1024."""
    return f"{number:.0f} B" if number < 1024 else _scaled(number, 1024, (" KiB", " MiB", " GiB", " TiB"))


def count(number: float) -> str:
    """`950`, `12.3k`, `4.5M`: a count in at most five characters up to 999 billion."""
    return f"{number:.0f}" if number < 999.5 else _scaled(number, 1000, ("k", "M", "G", "T"))


def _scaled(number: float, step: int, units: tuple[str, ...]) -> str:
    """The number in the first unit of which it is less than a thousand, else in the last."""
    for unit in units:
        number /= step
        if number < 999.5 or unit == units[-1]:
            break
    return f"{number:.{0 if number >= 99.95 else 1}f}{unit}"


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `3:05:00`: a time as a clock shows it."""
    whole = max(0, round(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def age(seconds: float) -> str:
    """`0.4s`, `42s`, `12m`, `3h`, `5d`: a time in a table."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    for unit, length, below in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 48 * 3600)):
        if seconds < below:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds / 86400:.0f}d"


def duration(seconds: float) -> str:
    """`0.35 s`, `12.4 s`, `3 min 5 s`, `2 h 5 min`, `3 days`: a time in a sentence."""
    if seconds < 9.95:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {second} s"
    hours, minute = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minute} min"
    return f"{hours // 24} days"

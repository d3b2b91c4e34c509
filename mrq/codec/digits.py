"""Whole numbers and their decimal digits, at any length.

Python refuses to convert more than `sys.get_int_max_str_digits()` digits, 4,300 unless the job's own code has
changed it, since its way takes the square of the length. The limit is the whole process's, so it is never
lifted here: user code may run in another thread. Numbers beyond it go through pieces that are too short for
Python to check (`sys.int_info.str_digits_check_threshold`).
"""

from __future__ import annotations

from typing import Final

#: Digits of a piece, fewer than Python ever checks.
_PIECE: Final = 600


def decimal(number: int) -> str:
    """The number as `repr` has it."""
    try:
        return repr(number)
    except ValueError:
        pass
    powers = [10**_PIECE]  # each the square of the one before
    while powers[-1] <= abs(number):
        powers.append(powers[-1] ** 2)
    digits = "".join(_pieces(abs(number), powers, len(powers) - 2)).lstrip("0")
    return f"-{digits}" if number < 0 else digits


def _pieces(number: int, powers: list[int], level: int) -> list[str]:
    """The digits of a number below `powers[level + 1]`, with zeros before them."""
    if level < 0:
        return [repr(number).zfill(_PIECE)]
    high, low = divmod(number, powers[level])
    return _pieces(high, powers, level - 1) + _pieces(low, powers, level - 1)


def whole(digits: str) -> int:
    """The number of a literal of digits, a minus sign before them if it is negative. Raises ValueError."""
    try:
        return int(digits)
    except ValueError:
        if not digits.removeprefix("-").isdecimal():
            raise
    rest = digits.removeprefix("-")
    ends = range(len(rest), 0, -_PIECE)
    parts = [int(rest[max(0, end - _PIECE) : end]) for end in ends]  # the least ones first
    base = 10**_PIECE
    while len(parts) > 1:
        parts.append(0)  # for the last one of an odd number; another zero does no harm
        parts = [low + high * base for low, high in zip(parts[::2], parts[1::2], strict=False)]
        base *= base
    return -parts[0] if digits.startswith("-") else parts[0]

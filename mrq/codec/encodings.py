"""Which encodings text can be read in by lines, as bytes that are cut at newlines before they are decoded."""

from __future__ import annotations

from typing import Final

#: Their bytes stand for other characters once a shift has been seen, which a cut leaves out.
_SHIFTING: Final = ("iso2022", "hz", "utf-7")


def newline_is_a_byte(name: str) -> bool:
    """Is a newline the single byte 10, and that byte nothing else, in this codec (a canonical name)?"""
    if name.startswith(_SHIFTING):
        return False
    try:
        return "a\n\nb".encode(name) == b"a\n\nb"
    except (LookupError, UnicodeError):
        return False

"""`mrq`, `python -m mrq` and `python -m mrq.submit`. Everything else is imported when it is needed."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` by default) and return its exit code."""
    import sys

    try:
        from mrq.cli.app import run

        return run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:  # before the handlers were there
        return 130

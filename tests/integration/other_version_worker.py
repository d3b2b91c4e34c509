"""A worker of another mrq, as a process: `python -m other_version_worker VERSION FORMAT …` is
`python -m mrq.worker …`, but says that it is mrq VERSION, and writes version FORMAT into Redis."""

from __future__ import annotations

import sys

import mrq
from mrq.adapters.redis import packing
from mrq.worker.__main__ import main

if __name__ == "__main__":
    mrq.__version__ = sys.argv[1]
    packing.VERSION = int(sys.argv[2])  # type: ignore[misc]
    sys.exit(main(sys.argv[3:]))

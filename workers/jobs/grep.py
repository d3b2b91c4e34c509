"""Grep: the lines that match a regular expression, in the order of the input.

    python workers/jobs/make_data.py data
    python -m mrq.submit workers/jobs/grep.py 'data/books/*.txt' -o out/grep --set 'pattern=riv[ei]r'
    python -m mrq.submit workers/jobs/grep.py data/books -o out/paths --set pattern=river --set paths=true

There is no reduce: the parts are the maps' outputs in input order, so `cat out/grep/part-*` is what
grep would print.
"""

import re

import mrq


class Grep(mrq.Job):
    """Python's regular expressions, searched anywhere in the line."""

    pattern: str
    ignore_case: bool = False
    invert: bool = False  #: the lines that don't match
    paths: bool = False  #: put each line's file in front, as `grep -H` does

    def setup(self):
        flags = re.IGNORECASE if self.ignore_case else 0
        self.search = re.compile(self.pattern, flags).search

    def map(self, offset, line):
        if (self.search(line) is None) is self.invert:
            # A key of None leaves the value alone on its line.
            yield None, f"{self.task.path}:{line}" if self.paths else line


if __name__ == "__main__":
    mrq.main(Grep)

"""Distributed sort: lines in order of their first `key_bytes` bytes, over all parts together.

100-byte records (99 bytes and a newline, as `gensort -a` makes them) by their 10-byte key:

    python workers/jobs/make_data.py data
    python -m mrq.submit workers/jobs/sort.py data/records.txt -o out/sort -R 4

Text lines, by the whole line:

    python -m mrq.submit workers/jobs/sort.py 'data/books/*.txt' -o out/sorted-lines --set key_bytes=0

`cat out/sort/part-*` is the sorted file: ranges of keys are found by sampling. Lines of equal keys stay
in the order of the input. It is the order of `LC_ALL=C sort`.
"""

import mrq


class Sort(mrq.Job, order="total", encoding=None, output_format="lines"):
    """Bytes in, bytes out (`encoding=None`), so that nothing is decoded on the way."""

    key_bytes: int = 10  #: 0: the whole line

    reduce = mrq.identity

    def map(self, offset, line):
        yield line[: self.key_bytes or None], line


if __name__ == "__main__":
    mrq.main(Sort)

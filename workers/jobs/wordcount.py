"""Word count: <word, how often it occurs>, words being what stands between white space.

    python workers/jobs/make_data.py data
    python -m mrq.submit workers/jobs/wordcount.py 'data/books/*.txt' -o out/wordcount
    python -m mrq.submit workers/jobs/wordcount.py 'data/books/*.txt' -o out/folded --set fold_case=true

With `fold_case` The and the are one word.
"""

import mrq


class WordCount(mrq.Job):
    """A line in, a pair for each of its words out; the built-in brings its own combiner."""

    fold_case: bool = False

    reduce = mrq.sum

    def map(self, offset, line):
        if self.fold_case:
            line = line.lower()
        for word in line.split():
            yield word, 1


if __name__ == "__main__":
    mrq.main(WordCount)

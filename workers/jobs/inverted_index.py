"""Inverted index: <word, sorted list of the documents that it occurs in>.

Each file is a document, and its path is its id:

    python workers/jobs/make_data.py data
    python -m mrq.submit workers/jobs/inverted_index.py 'data/books/*.txt' -o out/index

Or each line `id<TAB>text` is one:

    python -m mrq.submit workers/jobs/inverted_index.py data/documents.tsv -o out/index2 --set documents=lines
"""

import re
from itertools import groupby
from typing import Literal

import mrq

WORD = re.compile(r"\w+")


class InvertedIndex(mrq.Job, sort_values=True):
    """Words are letters, digits and underscores, folded to lower case."""

    documents: Literal["files", "lines"] = "files"

    def map(self, offset, line):
        document, text = self.task.path, line
        if self.documents == "lines":
            document, tab, text = line.partition("\t")
            if not tab:
                self.counters["unparsable"] += 1
                return
        for word in dict.fromkeys(WORD.findall(text.lower())):
            yield word, document

    def combine(self, word, documents):
        yield from dict.fromkeys(documents)

    def reduce(self, word, documents):
        yield [document for document, _ in groupby(documents)]  # sort_values: equal ones stand together


if __name__ == "__main__":
    mrq.main(InvertedIndex)

"""Term vector per host: <host, its most frequent terms with their counts>, infrequent ones thrown away.

Documents are lines `URL<TAB>text`.

    python workers/jobs/make_data.py data
    python -m mrq.submit workers/jobs/term_vectors.py data/documents.tsv -o out/terms --set terms=10
"""

import re
from collections import Counter
from urllib.parse import urlsplit

import mrq

TERM = re.compile(r"[^\W\d_]{2,}")


class TermVectors(mrq.Job):
    """A document's vector in, added up by host. Terms are letters, two at least, folded to lower case."""

    terms: int = 20  #: how many to keep of each host
    min_count: int = 2  #: rarer ones are thrown away

    def map(self, offset, line):
        url, tab, text = line.partition("\t")
        host = urlsplit(url).hostname if tab else None
        if host is None:
            self.counters["unparsable"] += 1
            return
        yield host, Counter(TERM.findall(text.lower()))

    def combine(self, host, vectors):
        # Nothing can be thrown away here: a term that is rare in this map may be frequent in all.
        yield total(vectors)

    def reduce(self, host, vectors):
        frequent = [(term, n) for term, n in total(vectors).items() if n >= self.min_count]
        frequent.sort(key=lambda item: (-item[1], item[0]))
        yield frequent[: self.terms]


def total(vectors):
    """The sum of some vectors."""
    added = Counter()
    for vector in vectors:
        added.update(vector)
    return added


if __name__ == "__main__":
    mrq.main(TermVectors)

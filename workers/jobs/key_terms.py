"""Key terms of each document: <URL, the terms that it has often and few others have, with their weights>.

Documents are lines `URL<TAB>text`; a term weighs tf-idf in each: how often it occurs there, times the
logarithm of (documents / documents that have it). Three stages, each of which reads what the last one gave.

    python workers/jobs/make_data.py data
    python -m mrq.submit workers/jobs/key_terms.py data/documents.tsv -o out/key-terms --set documents=1000
"""

import math
import re

import mrq

TERM = re.compile(r"[^\W\d_]{2,}")


class KeyTerms(mrq.Job):
    """How often a term occurs in each document; what that weighs; the heaviest of each document."""

    documents: int  #: how many there are
    terms: int = 5  #: how many to keep of each document

    def stages(self):
        return [
            mrq.Stage(map=self.occurrences, reduce=mrq.sum),
            mrq.Stage(map=self.by_term, reduce=self.weigh),
            mrq.Stage(map=self.by_document, reduce=self.heaviest),
        ]

    def occurrences(self, offset, line):
        url, tab, text = line.partition("\t")
        if not tab:
            self.counters["unparsable"] += 1
            return
        for term in TERM.findall(text.lower()):
            yield (url, term), 1

    def by_term(self, url_and_term, times):
        url, term = url_and_term
        yield term, (url, times)

    def weigh(self, term, occurrences):
        found = list(occurrences)  # as many as documents have the term
        rare = math.log(self.documents / len(found))
        for url, times in found:
            yield url, times * rare

    def by_document(self, term, url_and_weight):
        url, weight = url_and_weight
        yield url, (weight, term)

    def heaviest(self, url, weighed):
        best = sorted(weighed, key=lambda pair: (-pair[0], pair[1]))[: self.terms]
        yield [[term, round(weight, 3)] for weight, term in best]


if __name__ == "__main__":
    mrq.main(KeyTerms)

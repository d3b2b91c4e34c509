"""Reverse web-link graph: <target, sorted list of the pages that link to it>.

From lines `source<TAB>target`:

    python workers/jobs/make_data.py data
    python -m mrq.submit workers/jobs/reverse_links.py data/links.tsv -o out/links

From HTML, one page a file, links resolved against the page's own path:

    python -m mrq.submit workers/jobs/reverse_links.py data/pages -o out/html --input-format whole
"""

from html.parser import HTMLParser
from itertools import groupby
from urllib.parse import urldefrag, urljoin

import mrq


class ReverseLinks(mrq.Job, sort_values=True):
    """Each source once, however often it links; `sort_values` brings them in order."""

    def map(self, key, value):
        if isinstance(value, bytes):  # --input-format whole: (path, content)
            links = Links()
            links.feed(value.decode("utf-8", "replace"))
            for href in links.found:
                target = urldefrag(urljoin(key, href)).url
                if target:
                    yield target, key
            return
        source, tab, target = value.partition("\t")
        if not tab:
            self.counters["unparsable"] += 1
            return
        yield target, source

    def combine(self, target, sources):
        for source, _ in groupby(sources):  # the same page's links stand together
            yield source

    def reduce(self, target, sources):
        yield [source for source, _ in groupby(sources)]


class Links(HTMLParser):
    """The href of every anchor."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.found.extend(value.strip() for name, value in attributes if name == "href" and value)


if __name__ == "__main__":
    mrq.main(ReverseLinks)

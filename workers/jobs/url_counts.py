"""URL access frequency: <URL, requests> of a web log in Common Log Format.

    python workers/jobs/make_data.py data
    python -m mrq.submit workers/jobs/url_counts.py data/access.log -o out/urls
    python -m mrq.submit workers/jobs/url_counts.py data/access.log -o out/found --set status=200

Lines of another form are left out and counted (`unparsable` in the summary and in out/urls/_SUCCESS).
"""

import re

import mrq

#: host ident user [time] "METHOD URL PROTOCOL" status bytes; combined logs have more after it.
LINE = re.compile(r'\S+ \S+ \S+ \[[^]]*\] "[A-Z]+ (\S+)[^"]*" (\d{3}) (?:\d+|-)(?: |$)')


class UrlCounts(mrq.Job):
    """The URL is taken as the log has it, query and all."""

    status: int | None = None  #: only requests that were answered so

    reduce = mrq.sum

    def map(self, offset, line):
        hit = LINE.match(line)
        if hit is None:
            self.counters["unparsable"] += 1
        elif self.status is None or int(hit[2]) == self.status:
            yield hit[1], 1


if __name__ == "__main__":
    mrq.main(UrlCounts)

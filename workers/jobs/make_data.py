"""Small data sets for the jobs in this folder, the same for the same seed.

    python workers/jobs/make_data.py data [--lines 4000] [--seed 1]

Makes in the folder: books/*.txt (prose of invented words, frequent ones at the head, some not ASCII),
access.log (Common Log Format, with some broken lines), links.tsv and pages/ (a web as `source<TAB>target`
and as HTML), documents.tsv (`URL<TAB>text`) and records.txt (100-byte records).
"""

import argparse
import os
import random
from itertools import accumulate

COMMON = """the of and to a in that it was his he with as had for on is her which at be not by this from but
have they were one all there would their river house light water never stone garden winter letter"""
ACCENTED = "café naïve Zürich élan über Ωmega 東京 señor"
SYLLABLES = "ba ce di fo gu har kel lin mon nor pa que ri sul ta ven wy xo ya zer"
AGENTS = ("GET", "GET", "GET", "GET", "POST", "HEAD")
STATUS = (200, 200, 200, 200, 304, 404, 500)


class Prose:
    """Words by Zipf's law: the n-th is drawn with weight 1/n."""

    def __init__(self, rng: random.Random, size: int = 4000) -> None:
        made = {"".join(rng.choices(SYLLABLES.split(), k=rng.randint(2, 4))): None for _ in range(size)}
        self.words = [*COMMON.split(), *ACCENTED.split(), *made]
        self.weights = list(accumulate(1 / n for n in range(1, len(self.words) + 1)))
        self.rng = rng

    def draw(self, count: int) -> list[str]:
        """Some words, as they come."""
        return self.rng.choices(self.words, cum_weights=self.weights, k=count)

    def line(self) -> str:
        """A line of prose, with capitals and a full stop now and then."""
        words = self.draw(self.rng.randint(0, 14))
        if words and self.rng.random() < 0.3:
            words[0] = words[0].capitalize()
            words[-1] += "."
        return " ".join(words)


def books(folder: str, lines: int, prose: Prose) -> None:
    """Five books of unlike length; one has a line that isn't UTF-8 and no newline at its end."""
    os.makedirs(f"{folder}/books", exist_ok=True)
    for i in range(5):
        text = [prose.line().encode() for _ in range(lines * (i + 1) // 15)]
        if i == 2:
            text.append("déjà vu in Latin-1".encode("latin-1"))
        end = b"" if i == 2 else b"\n"
        write(f"{folder}/books/book{i + 1}.txt", b"\n".join(text) + end)


def access_log(folder: str, lines: int, prose: Prose) -> None:
    """Requests for some hundred URLs; every 97th line is broken."""
    rng = prose.rng
    urls = [f"/{'/'.join(prose.draw(rng.randint(1, 3)))}.html" for _ in range(150)]
    urls = [url if rng.random() < 0.7 else f"{url}?page={rng.randint(1, 9)}" for url in urls]
    out = []
    for i in range(lines):
        host = f"{rng.randint(1, 223)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"
        when = f"{i % 28 + 1:02}/Nov/2026:{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:00 +0000"
        request = f"{rng.choice(AGENTS)} {rng.choice(urls)} HTTP/1.1"
        size = rng.choice(["-", rng.randint(100, 99999)])
        line = f'{host} - - [{when}] "{request}" {rng.choice(STATUS)} {size}'
        out.append(line[: rng.randint(0, 30)] if i % 97 == 96 else line)
    write(f"{folder}/access.log", ("\n".join(out) + "\n").encode())


def web(folder: str, lines: int, prose: Prose) -> None:
    """A web of pages in two folders, once as links.tsv and once as HTML."""
    rng = prose.rng
    names = [f"{rng.choice('ab')}/page{i}.html" for i in range(max(10, lines // 40))]
    links = []
    for source in names:
        os.makedirs(f"{folder}/pages/{os.path.dirname(source)}", exist_ok=True)
        body = []
        for target in rng.choices(names, k=rng.randint(0, 12)):
            links.append(f"http://example.org/{source}\thttp://example.org/{target}")
            href = os.path.relpath(target, os.path.dirname(source))
            mark = rng.choice(["", "", "#top"])
            body.append(f'<p>{prose.line()} <a class="x" href="{href}{mark}">{target}</a></p>')
        page = f"<!doctype html>\n<title>{source}</title>\n<!-- <a href='no.html'> -->\n" + "\n".join(body)
        write(f"{folder}/pages/{source}", page.encode())
    write(f"{folder}/links.tsv", ("\n".join(links) + "\n").encode())


def documents(folder: str, lines: int, prose: Prose) -> None:
    """Documents of a dozen hosts, one a line."""
    rng = prose.rng
    hosts = [f"www.{rng.choice(SYLLABLES.split())}{i}.example" for i in range(12)]
    rows = [
        f"http://{rng.choice(hosts)}/{i}\t{' '.join(prose.draw(rng.randint(5, 40)))}"
        for i in range(lines // 4)
    ]
    write(f"{folder}/documents.tsv", ("\n".join(rows) + "\n").encode())


def records(folder: str, lines: int, rng: random.Random) -> None:
    """100-byte records with a key of ten printable bytes; some keys occur more than once."""
    printable = [chr(code) for code in range(32, 127)]
    rows = []
    for i in range(lines * 4):
        key = "".join(rng.choices(printable, k=10)) if i % 50 else "same key!!"
        rows.append(f"{key}  {i:032X}  {chr(65 + i % 26) * 53}")
    write(f"{folder}/records.txt", ("\n".join(rows) + "\n").encode())


def write(path: str, data: bytes) -> None:
    """The whole file."""
    with open(path, "wb") as f:
        f.write(data)


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--lines", type=int, default=4000, help="about how many in each data set")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    prose = Prose(random.Random(options.seed))
    for make in (books, access_log, web, documents):
        make(options.folder, options.lines, prose)
    records(options.folder, options.lines, prose.rng)


if __name__ == "__main__":
    main()

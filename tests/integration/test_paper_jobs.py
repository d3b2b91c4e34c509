"""The paper's jobs, run by the commands of their own docstrings, against other tools and plain counting.

No expected answer comes from mrq: it comes from awk, sort and grep, or from a Counter over the data.
"""

from __future__ import annotations

import ast
import glob
import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from posixpath import dirname, join, normpath

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOBS = [
    *("grep", "inverted_index", "key_terms", "reverse_links", "sort", "term_vectors", "url_counts"),
    "wordcount",
]

Run = Callable[..., Path]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a clone's root: workers/ is there, and data/ as the docstrings make it."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "workers").symlink_to(ROOT / "workers")
    subprocess.run([sys.executable, "workers/jobs/make_data.py", "data"], cwd=folder, check=True, timeout=60)
    return folder


@pytest.fixture
def run(here: Path) -> Run:
    """Run the n-th submit command of a job's docstring, with more flags; gives OUT."""

    def submit(job: str, n: int, *more: str) -> Path:
        words = shlex.split(commands(job)[n])
        assert words[:3] == ["python", "-m", "mrq.submit"]
        out = here / words[words.index("-o") + 1]
        done = subprocess.run(
            [sys.executable, "-m", "mrq.submit", *words[3:], "--overwrite", *more],
            cwd=here,
            env={**os.environ, "PYTHONPATH": str(ROOT), "MRQ_TMP": str(here)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (out / "_SUCCESS").is_file()
        return out

    return submit


def commands(job: str) -> list[str]:
    """The submit commands of a job's docstring."""
    text = ast.get_docstring(ast.parse((ROOT / f"workers/jobs/{job}.py").read_text())) or ""
    return [line.strip() for line in text.splitlines() if "mrq.submit" in line]


def parts(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(out.glob("part-*"))]


def table(out: Path) -> dict[str, str]:
    """key -> value of text parts; a key in two places fails."""
    rows = [
        line.split("\t", 1) for line in b"".join(parts(out)).decode("utf-8", "surrogateescape").splitlines()
    ]
    made = dict(rows)
    assert len(made) == len(rows)
    return made


def tool(here: Path, script: str) -> str:
    """What a shell pipeline prints, in the C locale."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=here,
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("job", JOBS)
def test_each_docstring_shows_how_to_run_it(job: str) -> None:
    assert commands(job)
    for command in commands(job):
        assert f"workers/jobs/{job}.py" in command


def test_the_data_is_the_same_for_the_same_seed(here: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "workers/jobs/make_data.py")]
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([*script, str(tmp_path / "again")], check=True, timeout=60, env=env)
    assert tool(tmp_path, f"diff -r again {here}/data") == ""
    subprocess.run([*script, str(tmp_path / "other"), "--seed", "2"], check=True, timeout=60)
    assert (tmp_path / "other/links.tsv").read_bytes() != (here / "data/links.tsv").read_bytes()


def test_word_count_against_awk(here: Path, run: Run) -> None:
    out = run("wordcount", 0, "-R", "3", "--split-size", "16k")
    awk = '{ for (i = 1; i <= NF; i++) n[$i]++ } END { for (w in n) print w "\\t" n[w] }'
    expected = dict(line.split("\t") for line in tool(here, f"awk '{awk}' data/books/*.txt").splitlines())
    assert table(out) == expected
    assert len(parts(out)) == 3
    for part in parts(out):
        keys = [line.split(b"\t")[0] for line in part.splitlines()]
        assert keys == sorted(keys)


def test_word_count_folded_against_a_counter(here: Path, run: Run) -> None:
    expected: Counter[str] = Counter()
    for path in glob.glob(str(here / "data/books/*.txt")):
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            expected.update(f.read().lower().split())
    assert table(run("wordcount", 1)) == {word: str(n) for word, n in expected.items()}


def test_grep_against_grep(here: Path, run: Run) -> None:
    out = run("grep", 0, "--split-size", "8k")
    expected = tool(here, "grep -ahE 'riv[ei]r' data/books/*.txt")
    assert b"".join(parts(out)).decode("utf-8", "surrogateescape") == expected
    assert expected.count("\n") > 10
    assert len(parts(out)) > 5  # a part a map, in input order


def test_grep_with_paths_against_grep(here: Path, run: Run) -> None:
    out = run("grep", 1, "--set", "ignore_case=yes", "--set", "invert=true")
    expected = tool(here, "grep -aivH river data/books/*.txt")
    assert b"".join(parts(out)).decode("utf-8", "surrogateescape") == expected


def test_url_counts_against_awk_and_sort(here: Path, run: Run) -> None:
    whole = r"^[^ ]+ [^ ]+ [^ ]+ \[[^]]*\] \"[A-Z]+ [^ ]+ HTTP/1\.1\" [0-9]+ ([0-9]+|-)$"
    cut = "awk '{ print $7 }' | sort | uniq -c | awk '{ print $2 \"\\t\" $1 }'"
    for n, picked in ((0, ""), (1, "| awk '$9 == 200'")):
        out = run("url_counts", n, "-R", "2")
        expected = tool(here, f'grep -aE "{whole}" data/access.log {picked} | {cut}')
        assert table(out) == dict(line.split("\t") for line in expected.splitlines())
        broken = int(tool(here, f'grep -avcE "{whole}" data/access.log'))
        assert broken > 0
        assert json.loads((out / "_SUCCESS").read_text())["counters"]["unparsable"] == broken


def test_reverse_links_against_sort(here: Path, run: Run) -> None:
    expected: dict[str, list[str]] = defaultdict(list)
    for line in tool(here, "awk -F'\\t' '{ print $2 \"\\t\" $1 }' data/links.tsv | sort -u").splitlines():
        target, source = line.split("\t")
        expected[target].append(source)
    got = table(run("reverse_links", 0, "-R", "3", "--split-size", "4k"))
    assert {target: json.loads(sources) for target, sources in got.items()} == expected


def test_reverse_links_of_html_against_a_regular_expression(here: Path, run: Run) -> None:
    expected: dict[str, set[str]] = defaultdict(set)
    for path in glob.glob("data/pages/*/*.html", root_dir=here):
        for href in re.findall(r'<a class="x" href="([^"#]*)', (here / path).read_text()):
            expected[normpath(join(dirname(path), href))].add(path)
    got = table(run("reverse_links", 1))
    assert {target: json.loads(sources) for target, sources in got.items()} == {
        target: sorted(sources) for target, sources in expected.items()
    }
    assert not any("no.html" in target for target in got)  # in a comment


def test_term_vectors_against_counters(here: Path, run: Run) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for line in (here / "data/documents.tsv").read_text().splitlines():
        url, text = line.split("\t")
        letters = "".join(c if c.isalpha() else " " for c in text.lower())
        counts[url.split("/")[2]].update(word for word in letters.split() if len(word) > 1)
    expected = {}
    for host, vector in counts.items():
        best = sorted(vector.items(), key=lambda item: (-item[1], item[0]))[:10]
        expected[host] = [[term, n] for term, n in best if n >= 2]
    got = table(run("term_vectors", 0, "--split-size", "4k"))
    assert {host: json.loads(vector) for host, vector in got.items()} == expected
    assert len(expected) > 5


def test_key_terms_against_counters(here: Path, run: Run) -> None:
    found: dict[str, Counter[str]] = {}
    for line in (here / "data/documents.tsv").read_text().splitlines():
        url, text = line.split("\t")
        letters = "".join(c if c.isalpha() else " " for c in text.lower())
        found[url] = Counter(word for word in letters.split() if len(word) > 1)
    having = Counter(term for terms in found.values() for term in terms)
    expected = {}
    for url, terms in found.items():
        weighed = [(n * math.log(1000 / having[term]), term) for term, n in terms.items()]
        best = sorted(weighed, key=lambda pair: (-pair[0], pair[1]))[:5]
        expected[url] = [[term, round(weight, 3)] for weight, term in best]
    got = table(run("key_terms", 0, "--split-size", "8k", "-R", "3"))
    assert {url: json.loads(terms) for url, terms in got.items()} == expected
    assert len(expected) == 1000


def test_inverted_index_of_files_against_sets(here: Path, run: Run) -> None:
    expected: dict[str, list[str]] = defaultdict(list)
    for path in sorted(glob.glob("data/books/*.txt", root_dir=here)):
        text = (here / path).read_bytes().decode("utf-8", "surrogateescape").lower()
        for word in set("".join(c if c.isalnum() else " " for c in text).split()):
            expected[word].append(path)
    got = table(run("inverted_index", 0, "-R", "3", "--split-size", "8k"))
    assert {word: json.loads(documents) for word, documents in got.items()} == expected


def test_inverted_index_of_lines_against_awk(here: Path, run: Run) -> None:
    awk = '{ n = split($2, w, / /); for (i = 1; i <= n; i++) print w[i] "\\t" $1 }'
    expected: dict[str, list[str]] = defaultdict(list)
    for line in tool(here, f"awk -F'\\t' '{awk}' data/documents.tsv | sort -u").splitlines():
        word, document = line.split("\t")
        expected[word.lower()].append(document)
    got = table(run("inverted_index", 1))
    assert {word: json.loads(documents) for word, documents in got.items()} == {
        word: sorted(set(documents)) for word, documents in expected.items()
    }


@pytest.mark.parametrize("more", [("--split-size", "100k"), ("--split-size", "1m", "-j", "1")])
def test_sort_of_records_against_sort(here: Path, run: Run, more: tuple[str, ...]) -> None:
    out = run("sort", 0, *more)
    # One field a line (no line has a \x01), stable: equal keys stay in the order of the input.
    expected = tool(here, "sort -s -t $'\\x01' -k1.1,1.10 data/records.txt")
    assert b"".join(parts(out)).decode() == expected
    assert len(parts(out)) == 4
    assert min(map(len, parts(out))) > 0


def test_sort_of_text_lines_against_sort(here: Path, run: Run) -> None:
    out = run("sort", 1, "-R", "3", "--split-size", "10k")
    expected = tool(here, "cat data/books/book1.txt data/books/book2.txt data/books/book3.txt <(echo) "
                          "data/books/book4.txt data/books/book5.txt | sort")  # fmt: skip
    assert b"".join(parts(out)).decode("utf-8", "surrogateescape") == expected


def test_a_job_file_runs_itself(here: Path) -> None:
    """`mrq.main`: the same flags as submit."""
    done = subprocess.run(
        [sys.executable, "workers/jobs/grep.py", "data/books", "-o", "-", "--set", "pattern=river", "-q"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MRQ_TMP": str(here)},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("utf-8", "surrogateescape") == tool(here, "grep -ah river data/books/*.txt")


def test_running_a_job_leaves_nothing_beside_it() -> None:
    assert not [name for name in os.listdir(ROOT / "workers/jobs") if not name.endswith(".py")]

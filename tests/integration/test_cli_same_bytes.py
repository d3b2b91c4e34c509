"""The output is the same, byte for byte, whatever happens to executors and whatever runs the job."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from cli_runs import Runs, descendants, finish
from folders import below


@pytest.fixture
def shell(tmp_path):
    made = Runs(tmp_path)
    rng = random.Random(3)
    words = [f"wörd{n}" for n in range(3000)] + ["\N{SNOWMAN}", "0", "1.0", "-"]
    made.write("in.txt", "".join(" ".join(rng.choices(words, k=12)) + "\n" for _ in range(3000)))
    made.write("bytes.txt", b"caf\xe9 caf\xc3\xa9\n" * 3)
    made.write("sets.py", '''
import mrq

class Sets(mrq.Job):
    """Order of a set, of values and of mixed keys: what tends to differ between runs."""

    def map(self, key, line):
        for number, word in enumerate(set(line.split())):
            yield word, key
            yield number, word
            yield (number, word[:2]), None

    def reduce(self, key, values):
        yield ["|".join(map(str, values))][0]
''')  # fmt: skip
    return made


def result_of(shell, out, *argv, job="sets.py", **env):
    ran = shell.submit(job, "in.txt", "bytes.txt", "-o", out, "-R", "3", "-q", *argv, env=env)
    assert ran.code == 0, ran.err
    return shell.result(out)


def test_hash_seeds_locales_executors_and_time_zones_do_not_show(shell):
    expected = result_of(shell, "out", "-j", "1", "--split-size", "20k")
    variations = [
        (["-j", "3"], {"PYTHONHASHSEED": "1"}),
        (
            ["-j", "2"],
            {"PYTHONHASHSEED": "4242", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        ),
        (["-j", "2", "--no-backups"], {"LC_ALL": "POSIX", "TZ": "Pacific/Apia"}),
        (["-j", "1"], {"PYTHONOPTIMIZE": "1", "LANG": "tr_TR.UTF-8"}),
    ]
    for number, (argv, env) in enumerate(variations):
        assert result_of(shell, f"out{number}", "--split-size", "20k", *argv, **env) == expected, (argv, env)


def test_memory_does_not_show_where_combine_is_associative(shell):
    outs = [
        result_of(shell, f"out{memory}", "--memory", memory, "--split-size", "20k", job="wc.py")
        for memory in ("16M", "64M", "1G")
    ]
    assert outs[0] == outs[1] == outs[2]


def test_executors_that_are_killed_do_not_show(shell):
    expected = result_of(shell, "out", "--split-size", "4k")
    rng = random.Random(7)
    process = shell.start(
        *("submit", "sets.py", "in.txt", "bytes.txt", "-o", "killed", "-R", "3", "-j", "2", "-v"),
        *("--split-size", "4k", "--max-failures", "3"),
    )
    killed = 0
    deadline = time.monotonic() + 60
    while process.poll() is None and killed < 6:
        assert time.monotonic() < deadline
        time.sleep(rng.uniform(0.05, 0.15))
        busy = sorted(descendants(process.pid))
        if busy and any(path.name.startswith("m-") for path in below(shell.temp)):
            with suppress(ProcessLookupError):
                os.kill(rng.choice(busy), signal.SIGKILL)
                killed += 1
    ran = finish(process)
    assert ran.code == 0, ran.err
    assert killed >= 1
    assert shell.result("killed") == expected


def test_the_answer_is_that_of_other_tools(shell):
    result_of(shell, "out", job="wc.py")
    ours = b"".join(data for name, data in sorted(shell.result("out").items()))
    script = "cat in.txt bytes.txt | tr -s ' ' '\\n' | sort | uniq -c | awk '{print $2 \"\\t\" $1}' | sort"
    theirs = subprocess.run(
        ["sh", "-c", script],
        cwd=shell.folder,
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        check=True,
    )
    assert sorted(ours.splitlines()) == sorted(theirs.stdout.splitlines())
    assert sys.flags.utf8_mode in (0, 1)

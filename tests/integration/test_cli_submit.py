"""Jobs from a shell: the happy path, --json, --dry-run, reading results, failures."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from cli_runs import Runs

TEXT = "a b a\nc a\n" * 50 + "tail without newline"


@pytest.fixture
def shell(tmp_path):
    made = Runs(tmp_path)
    made.write("in.txt", TEXT)
    return made


def counted(shell, out="out"):
    lines = b"".join(data for name, data in shell.result(out).items() if name.startswith("part-")).decode()
    return {word: int(n) for word, n in (line.split("\t") for line in lines.splitlines())}


def test_a_job_runs_and_says_what_it_was(shell):
    ran = shell.submit("wc.py", "in.txt", "-o", "out", "-R", "3", "-j", "2")
    assert ran.code == 0, ran.err
    assert counted(shell) == Counter(TEXT.split())
    lines = ran.err.splitlines()
    assert lines[0].startswith("embedded: 2 executors, temporary files in ")
    assert "done in" in ran.err
    assert "101 records" in ran.err
    assert "out (3 parts)" in ran.err
    assert ran.out == b""
    assert sorted(shell.result()) == ["part-00000", "part-00001", "part-00002"]
    assert shell.temporary() == []
    assert shell.staged() == []


def test_the_module_is_the_same_command(shell):
    ran = shell.run("wc.py:WordCount", "in.txt", "-o", "out", module="mrq.submit")
    assert ran.code == 0, ran.err
    assert counted(shell) == Counter(TEXT.split())


def test_a_job_file_runs_itself(shell):
    shell.write(
        "self.py",
        (shell.folder / "wc.py").read_text() + '\nif __name__ == "__main__":\n    mrq.main(WordCount)\n',
    )
    made = subprocess.run(
        [sys.executable, "self.py", "in.txt", "-o", "out", "--set", "least=50"],
        cwd=shell.folder, env=shell.environ(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert counted(shell) == {w: n for w, n in Counter(TEXT.split()).items() if n >= 50}


def test_quiet_says_nothing(shell):
    ran = shell.submit("wc.py", "in.txt", "-o", "out", "-q")
    assert (ran.code, ran.out, ran.err) == (0, b"", "")


def test_verbose_says_the_plan_and_the_counters(shell):
    ran = shell.submit("wc.py", "in.txt", "-o", "out", "-v")
    assert ran.code == 0, ran.err
    assert "partitions" in ran.err
    assert "lines  101" in ran.err


def test_standard_input_to_standard_output(shell):
    ran = shell.submit("wc.py", "-", "-o", "-", "--set", "least=2", stdin=TEXT.encode())
    assert ran.code == 0, ran.err
    assert ran.out == b"a\t150\nb\t50\nc\t50\n"
    assert shell.temporary() == []
    assert shell.staged() == []


def test_the_json_object_of_a_job(shell):
    ran = shell.submit("wc.py", "in.txt", "-o", "out", "-R", "2", "--json")
    assert ran.code == 0, ran.err
    made = ran.json
    assert (made["version"], made["status"], made["exit_code"], made["engine"]) == (2, "done", 0, "embedded")
    assert made["name"] == "WordCount"
    assert made["job"].startswith("wordcount-")
    assert made["output"] == str(shell.folder / "out")
    assert [os.path.basename(part) for part in made["parts"]] == ["part-00000", "part-00001"]
    assert made["info"]["counters"] == {"lines": 101}
    assert (made["info"]["job"], made["info"]["state"]) == (made["job"], "done")
    assert [stage["completed"] for stage in made["info"]["stages"]] == [1, 2]
    assert abs(made["info"]["finished_at"] - time.time()) < 60
    assert made["error"] is None
    assert made["summary"]["records_in"] == 101
    assert made["summary"]["records_out"] == 6
    assert made["summary"]["maps"] == 1
    assert made["summary"]["reduces"] == 2
    assert made["summary"]["bytes_in"] == len(TEXT)
    assert "done in" in ran.err


def test_the_json_object_of_a_refusal(shell):
    ran = shell.submit("wc.py", "nothing.txt", "-o", "out", "--json")
    assert ran.code == 2
    assert (ran.json["status"], ran.json["exit_code"], ran.json["error"]["type"]) == (
        "refused",
        2,
        "InputError",
    )
    assert "nothing.txt" in ran.json["error"]["message"]


def test_a_dry_run_runs_nothing(shell):
    ran = shell.submit(
        "slow.py", "in.txt", "-R", "4", "--split-size", "100", "--set", f"marks={shell.marks}", "--dry-run"
    )
    assert ran.code == 0, ran.err
    text = ran.out.decode()
    for words in ("Slow", "in.txt from 0 to", "partitions  4", "text", "m-00001"):
        assert words in text
    assert list(shell.marks.iterdir()) == []
    assert shell.temporary() == []
    assert not (shell.folder / "out").exists()


def test_the_json_object_of_a_dry_run(shell):
    ran = shell.submit("wc.py", "in.txt", "--dry-run", "--json", "--split-size", "100", "-R", "2")
    assert ran.code == 0, ran.err
    made = ran.json
    assert made["status"] == "planned"
    assert made["partitions"] == 2
    assert sum(split["bytes"] for split in made["splits"]) == len(TEXT)
    assert made["files"] == [{"path": "in.txt", "bytes": len(TEXT), "splittable": True}]


def test_a_result_is_printed_and_shown(shell):
    for form, packed in (("text", None), ("jsonl", "gz"), ("records", None), ("lines", "xz")):
        argv = ["--output-format", form, *(["--compress", packed] if packed else [])]
        ran = shell.submit("wc.py", "in.txt", "-o", f"out-{form}", "-R", "2", "--set", "least=50", *argv)
        assert ran.code == 0, ran.err
    lines = {
        form: sorted(shell.run("cat", f"out-{form}").out.splitlines())
        for form in ("text", "jsonl", "records", "lines")
    }
    assert lines["text"] == lines["records"] == [b"a\t150", b"b\t50", b"c\t50"]
    assert json.loads(lines["jsonl"][0]) == {"key": "a", "value": 150}
    assert lines["lines"] == [b"150", b"50", b"50"]
    shown = shell.run("show", "out-jsonl")
    assert shown.code == 0
    for words in (b"WordCount", b"least", b"lines", b"part-00000.jsonl.gz", b"in.txt"):
        assert words in shown.out
    assert shell.run("show", "out-jsonl", "--json").json["format"] == "jsonl"


def test_a_reader_that_goes_away_is_no_error(shell):
    shell.write("big.txt", "".join(f"word{n}\n" for n in range(200_000)))
    assert shell.submit("wc.py", "big.txt", "-o", "out", "-q").code == 0
    process = shell.start("cat", "out")
    assert process.stdout.read(10)
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(30) == 141


@pytest.mark.parametrize("command", ["cat", "show"])
def test_what_is_no_result_is_refused(shell, command):
    (shell.folder / "empty").mkdir()
    for out in ("empty", "nothing", "in.txt"):
        ran = shell.run(command, out)
        assert ran.code == 2
        assert out in ran.err
        assert "Traceback" not in ran.err


def test_a_failed_job_shows_the_users_frame_the_record_and_its_place(shell):
    shell.write("numbers.txt", "1\n2\nthree\n4\n")
    ran = shell.submit("fails.py", "numbers.txt", "-o", "out")
    assert ran.code == 1
    for words in (
        "error: ",
        "fails.py",
        "int(line)",
        "ValueError",
        "'three'",
        "numbers.txt at byte 4",
        "looking at three",
    ):
        assert words in ran.err, ran.err
    assert "Traceback" not in ran.err
    assert "mrq/worker" not in ran.err
    assert not (shell.folder / "out").exists()
    log = next(line.split()[1].rstrip(",") for line in ran.err.splitlines() if line.startswith("  log "))
    assert "looking at three" in Path(log).read_text()


def test_a_failed_job_can_be_retried_once_its_cause_is_gone(shell):
    shell.write(
        "needs.py",
        """
import os
import mrq

class Needs(mrq.Job):
    path: str
    reduce = mrq.sum

    def map(self, key, line):
        if not os.path.exists(self.path):
            raise FileNotFoundError(self.path)
        yield line, 1
""",
    )
    ran = shell.submit("needs.py", "in.txt", "-o", "out", "--set", f"path={shell.folder}/there", "--json")
    assert ran.code == 1
    made = ran.json
    assert made["status"] == "failed"
    assert made["error"]["attempts"][0]["type"] == "FileNotFoundError"
    assert made["info"]["errors"][0]["error"] == made["error"]["attempts"][0]
    assert made["info"]["state"] == "failed"
    assert f"mrq retry {made['job']}" in ran.err
    listed = shell.run("retry")
    assert made["job"].encode() in listed.out
    told = shell.submit("wc.py", "in.txt", "-o", "other")
    assert f"mrq retry {made['job']}" in told.err
    shell.write("there", "")
    shell.write("needs.py", "raise SystemError('the stored code is what runs')")
    again = shell.run("retry", made["job"])
    assert again.code == 0, again.err
    assert sum(counted(shell).values()) == 101
    assert shell.temporary() == []
    assert shell.staged() == []


def test_clean_gives_a_failed_job_up(shell):
    shell.write("numbers.txt", "x\n")
    assert shell.submit("fails.py", "numbers.txt", "-o", "out").code == 1
    assert shell.staged() == [".out.mrq"]
    ran = shell.run("clean", "--json")
    assert ran.code == 0
    assert len(ran.json["removed"]) == 1
    assert ran.json["bytes"] > 0
    assert shell.temporary() == []
    assert shell.staged() == []
    assert shell.run("retry").out.startswith(b"nothing to go on with")


def test_bad_records_are_left_out_and_kept(shell):
    shell.write("numbers.txt", "1\n2\nthree\n4\nfive\n")
    ran = shell.submit("fails.py", "numbers.txt", "-o", "out", "--skip-bad-records", "2")
    assert ran.code == 0, ran.err
    assert counted(shell) == {"1": 1, "2": 1, "4": 1}
    assert "2 records left out, kept in out/_bad" in ran.err
    bad = b"".join(data for name, data in shell.result().items() if name.startswith("_bad/"))
    assert b"three" in bad
    assert b"five" in bad
    told = json.loads(shell.result()["_bad/m-00000.jsonl"].splitlines()[0])
    assert f'File "{shell.folder}/fails.py", line ' in told["traceback"]
    # Typed and whole, they can be run again.
    ran = shell.submit(
        "wc.py", "out/_bad/*.records", "--input-format", "records", "-o", "again", "--set", "least=1"
    )
    assert ran.code == 0, ran.err
    assert counted(shell, "again") == {"three": 1, "five": 1}


def test_the_debug_switch_is_shown_and_the_job_copes(shell):
    ran = shell.submit(
        "wc.py", "in.txt", "-o", "out", "--split-size", "50", env={"MRQ_DEBUG": "fail_after=3:crash"}
    )
    assert ran.code == 0, ran.err
    assert "MRQ_DEBUG" in ran.err
    assert counted(shell) == Counter(TEXT.split())
    assert shell.submit("wc.py", "in.txt", "-o", "out2", env={"MRQ_DEBUG": "boom"}).code == 2


def test_version_and_help(shell):
    assert shell.run("--version").out.startswith(b"mrq ")
    for argv in ([], ["help"], ["--help"], ["help", "submit"], ["submit", "--help"], ["cat", "-h"]):
        ran = shell.run(*argv)
        assert ran.code == 0
        assert b"usage: mrq" in ran.out
        assert ran.err == ""

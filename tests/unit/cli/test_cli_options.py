"""The parser, and every refusal that needs no job: one sentence, naming what, where and what to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mrq
from mrq.cli.command_table import COMMANDS, help_text
from mrq.cli.options import submit_request
from mrq.cli.parser import parse
from mrq.errors import UsageError
from mrq.settings.run import SUBMIT


def options(*argv, **more):
    return submit_request(parse(SUBMIT, argv), **more)


def test_flags_may_stand_anywhere():
    for argv in (
        ["-o", "out", "pkg.mod:Job", "a", "b", "-R", "4"],
        ["pkg.mod:Job", "a", "-R4", "b", "-oout"],
        ["pkg.mod:Job", "--reducers=4", "a", "--output=out", "b"],
        ["-R", "4", "-o", "out", "--", "pkg.mod:Job", "a", "b"],
    ):
        made = options(*argv)
        assert (made.ref, made.inputs, made.output) == ("pkg.mod:Job", ("a", "b"), "out")
        assert made.overrides == {"reducers": 4}


def test_words_after_two_dashes_are_inputs():
    assert options("m:J", "-o", "out", "--", "-R", "--json").inputs == ("-R", "--json")


def test_a_dash_is_standard_input_and_output():
    made = options("m:J", "-", "-o", "-")
    assert made.inputs == ("-",)
    assert made.output is None


def test_the_last_of_a_repeated_flag_counts_and_every_set():
    made = options("m:J", "a", "-o", "x", "-o", "y", "--set", "a=1", "--set", "b=x=y")
    assert made.output == "y"
    assert made.typed == {"a": "1", "b": "x=y"}


def test_short_switches_bundle():
    parsed = parse(SUBMIT, ["-qR3"])
    assert parsed.given == {"quiet": True, "reducers": 3}


def test_a_value_may_begin_with_a_dash_or_be_empty():
    assert parse(SUBMIT, ["-o", "-dir", "a", "-R=4"]).given == {"output": "-dir", "reducers": 4}
    assert parse(SUBMIT, ["-qo", "x", "--set", "a=-1", "--set="]).given == {
        "quiet": True,
        "output": "x",
        "set": ["a=-1", ""],
    }
    assert parse(SUBMIT, ["-o=", "-"]).given == {"output": ""}


def test_every_setting_arrives_under_its_own_name():
    made = options(
        *("m:J", "a", "-o", "o", "--memory", "64M", "--split-size", "1MiB", "--input-format", "jsonl"),
        *("--output-format", "records", "--compress", "gz", "--overwrite", "--max-failures", "3"),
        *("--skip-bad-records", "5", "--no-backups", "--progress-timeout", "2m"),
    )
    assert made.overrides == {
        "memory": "64M",
        "split_size": "1MiB",
        "input_format": "jsonl",
        "output_format": "records",
        "compression": "gz",
        "max_failures": 3,
        "skip_bad_records": 5,
        "backups": False,
        "progress_timeout": "2m",
    }
    assert made.overwrite


def test_settings_are_those_of_jobs():
    from mrq.settings.job import SETTINGS

    made = options(
        *(
            "m:J",
            "a",
            "-o",
            "o",
            "--memory",
            "64M",
            "--split-size",
            "1M",
            "--input-format",
            "jsonl",
            "-R",
            "2",
        ),
        *("--output-format", "records", "--compress", "gz", "--max-failures", "3"),
        *("--skip-bad-records", "5", "--no-backups", "--progress-timeout", "2m"),
    )
    assert set(made.overrides) <= set(SETTINGS)


BASE = ["m:J", "a", "-o", "out"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["no JOB", "mrq submit"]),
        (["m:J"], ["no INPUT", "standard input"]),
        (["m:J", "a"], ["-o OUT", "-o -"]),
        (["m:J", "a", "-o"], ["-o needs a value", "OUT"]),
        (["m:J", "a", "-o", "--json"], ["-o needs a value"]),
        (["m:J", "a", "-o", ""], ["OUT is empty"]),
        (["m:J", "-", "-", "-o", "out"], ["once"]),
        (["m:J", "a", "-o", "-", "--json"], ["--json", "standard output"]),
        (["/tmp", "a", "-o", "out"], ["/tmp is a folder", ".py"]),
        (["no/such.py", "a", "-o", "out"], ["no job file no/such.py"]),
        (["no/such.py:Job", "a", "-o", "out"], ["no job file no/such.py"]),
        (["x" * 300 + ".py", "a", "-o", "out"], ["can't be reached by user", "File name too long"]),
        ([*BASE, "--reducers", "0"], ["--reducers 0", "from 1 to 10,000", "map-only"]),
        ([*BASE, "--reducers", "-3"], ["--reducers -3", "from 1 to 10,000"]),
        ([*BASE, "-R-3"], ["-3", "from 1 to 10,000"]),
        ([*BASE, "--reducers", "100000"], ["--reducers 100000", "from 1 to 10,000"]),
        ([*BASE, "--reducers", "many"], ["many", "whole number"]),
        ([*BASE, "--reducers", "1.5"], ["1.5", "whole number"]),
        ([*BASE, "-j", "0"], ["--executors 0: executors must be", "from 1 to 1,024"]),
        ([*BASE, "--memory", "1k"], ["--memory 1k", "at least 16M"]),
        ([*BASE, "--memory", "lots"], ["--memory lots", "512M"]),
        ([*BASE, "--memory", "-1G"], ["--memory -1G", "above 0"]),
        ([*BASE, "--split-size", "0"], ["--split-size 0", "above 0"]),
        ([*BASE, "--max-failures", "0"], ["--max-failures 0: max_failures must be", "from 1"]),
        ([*BASE, "--skip-bad-records", "-1"], ["--skip-bad-records -1", "from 0"]),
        ([*BASE, "--progress-timeout", "0"], ["--progress-timeout 0: progress_timeout must be", "above 0"]),
        ([*BASE, "--progress-timeout", "soon"], ["soon", "10m"]),
        ([*BASE, "--input-format", "txt"], ["--input-format txt", "'text'"]),
        ([*BASE, "--output-format", "json"], ["--output-format json", "'jsonl'"]),
        ([*BASE, "--compress", "gzip"], ["--compress gzip", "'gz'"]),
        ([*BASE, "--set", "gap"], ["--set gap", "'='", "--set gap=VALUE"]),
        ([*BASE, "--set", "=3"], ["--set =3", "name=value"]),
        ([*BASE, "--set", "a=1", "--set", "a=2"], ["--set a", "twice"]),
        ([*BASE, "--priority", "1001"], ["--priority 1001", "-1,000 to 1,000"]),
        ([*BASE, "--max-running", "0"], ["--max-running 0", "from 1"]),
        (["m:J", "b", "-o", "-", "--detach"], ["-o -", "--detach"]),
        ([*BASE, "-q", "-v"], ["-q", "-v"]),
        ([*BASE, "--reducer", "3"], ["no flag --reducer", "--reducers"]),
        ([*BASE, "--xyzzy"], ["no flag --xyzzy", "`mrq submit --help` lists"]),
        ([*BASE, "-3"], ["no flag -3"]),
        ([*BASE, "--overwrite=yes"], ["--overwrite takes no value; leave out =yes"]),
        ([*BASE, "-q=1"], ["-q takes no value; leave out =1"]),
        ([*BASE, "-qx"], ["no flag -x;"]),
        ([*BASE, "-qo"], ["-o needs a value"]),
        ([*BASE, "--ord", "total"], ["no flag --ord; did you mean --order?"]),
        ([*BASE, "--backup"], ["no flag --backup; did you mean --backups?"]),
    ],
)
def test_wrong_use_is_refused_in_one_sentence(argv, words):
    with pytest.raises(UsageError) as caught:
        options(*argv)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_cluster_local_is_what_there_is():
    assert options(*BASE, "--cluster", "local").inputs == ("a",)


def test_a_class_of_its_own_takes_inputs_only():
    made = options("a", "b", "-o", "out", job=mrq.Job)
    assert (made.ref, made.inputs) == (mrq.Job, ("a", "b"))


def test_a_dry_run_needs_no_out():
    assert options("m:J", "a", "--dry-run").output is None


def test_help_names_every_flag_of_every_command():
    for command in COMMANDS:
        text = help_text(command.name)
        for flag in command.flags:
            for name in flag.names:
                assert name in text
    assert all(command.name in help_text() for command in COMMANDS)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_parsing_refuses_or_returns_whatever_is_typed(argv):
    try:
        parsed = parse(SUBMIT, argv)
    except UsageError:
        return
    assert len(parsed.words) <= len(argv)

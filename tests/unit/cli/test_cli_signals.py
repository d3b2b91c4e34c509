"""The first signal stops, the second kills; raised while planning, noted while the engine works."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mrq.cli.signals import Signals, Stopped, child_pids, kill_children


def test_a_signal_is_raised_where_it_may_be():
    with Signals() as signals:
        with pytest.raises(Stopped) as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.exit_code == 143
        assert signals.received == signal.SIGTERM


def test_a_signal_is_noted_where_it_may_not():
    with Signals() as signals:
        with signals.noting():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            assert signals.received == signal.SIGINT
        with pytest.raises(Stopped) as caught:
            signals.check()
        assert caught.value.exit_code == 130


def test_handlers_are_taken_away_again():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_installs_nothing():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def other():
        with Signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_second_signal_kills_children_and_their_groups():
    code = """
import os, signal, subprocess, sys, time
from mrq.cli.signals import Signals
with Signals() as signals, signals.noting():
    own = subprocess.Popen(["sleep", "60"], start_new_session=True)
    ours = subprocess.Popen(["sleep", "60"])
    print(own.pid, ours.pid, flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert made.returncode == 130
    assert made.stderr == ""
    for pid in map(int, made.stdout.split()):
        deadline = time.monotonic() + 5
        while _runs(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_children_are_found_and_killed():
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    others = set(child_pids()) - {child.pid}
    assert child.pid in child_pids()
    assert not others, "this test must be the only one with children"
    kill_children()
    assert child.wait(5) == -signal.SIGKILL


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False

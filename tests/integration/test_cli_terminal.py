"""In a real (pseudo) terminal: the live display, and Ctrl-C as a key that is pressed."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from cli_runs import Runs, descendants, gone


@pytest.fixture
def shell(tmp_path):
    made = Runs(tmp_path)
    made.write("in.txt", "a b\n" * 60)
    return made


class Terminal:
    """A command whose terminal we are."""

    def __init__(self, shell, *argv, columns=90, **env):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        # A session of its own, with this terminal as the controlling one: then ^C is a signal.
        code = (
            "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
            "signal.signal(signal.SIGINT, signal.SIG_DFL);"
            "os.execv(sys.executable, [sys.executable, '-m', 'mrq', *sys.argv[1:]])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *argv],
            cwd=shell.folder,
            env=shell.environ(TERM="xterm", **env),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def press(self, keys):
        os.write(self.master, keys)

    def read(self, until=None, timeout_s=30):
        """All that is printed until a pattern shows up, or to the end."""
        deadline = time.monotonic() + timeout_s
        while until is None or not re.search(until, self.text):
            assert time.monotonic() < deadline, self.text
            if not select.select([self.master], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other side is closed
                data = b""
            if not data:
                break
            self.text += data.decode("utf-8", "replace")
        return self.text

    def close(self):
        with contextlib.suppress(OSError):
            os.close(self.master)
        return self.process.wait(20)


def slow(shell, pause_s):
    return (
        *("submit", "slow.py", "in.txt", "-o", "out", "-j", "2", "--split-size", "24"),
        *("--set", f"marks={shell.marks}", "--set", f"pause_s={pause_s}"),
    )


def test_the_display_is_live_and_ends_with_the_summary(shell):
    terminal = Terminal(shell, *slow(shell, 0.05))
    text = terminal.read()
    assert terminal.close() == 0
    assert "\x1b[2A" in text
    assert re.search(r"map .*\d+/10 .*running", text)
    assert re.search(r"done in .*60 records", text)
    assert "\x1b[?25" not in text
    plain = re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", text).replace("\r", "")
    assert all(len(line) < 90 for line in plain.splitlines() if "map" in line)


def test_no_color_is_respected(shell):
    terminal = Terminal(shell, *slow(shell, 0.05), NO_COLOR="1")
    text = terminal.read()
    assert terminal.close() == 0
    assert "map" in text
    assert not re.search(r"\x1b\[[\d;]*m", text)


def test_ctrl_c_as_a_key(shell):
    terminal = Terminal(shell, *slow(shell, 5))
    terminal.read(until=r"map .*running")
    children = descendants(terminal.process.pid)
    terminal.press(b"\x03")
    text = terminal.read()
    assert terminal.close() == 130
    assert "interrupted by Ctrl-C" in text
    assert "Traceback" not in text
    assert gone(children)
    assert shell.temporary() == []
    assert shell.staged() == []

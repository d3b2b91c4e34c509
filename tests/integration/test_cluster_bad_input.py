"""What a worker says when the cluster that it is told of is of no use: a sentence, and no password."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from services import free_ports


class Shell:
    """`python -m mrq.ROLE` in a folder of its own."""

    def __init__(self, folder, rabbitmq, redis_server):
        self.folder = folder
        self.settings = {
            "MRQ_AMQP_URL": rabbitmq.url,
            "MRQ_REDIS_URL": redis_server.url,
            "MRQ_PREFIX": redis_server.prefix,
            "MRQ_TIMEOUT_S": "10s",
        }

    def start(self, *argv, **settings):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MRQ_")}
        given = {**self.settings, **{f"MRQ_{name}": value for name, value in settings.items()}}
        return subprocess.Popen(
            [sys.executable, "-m", *argv],
            cwd=self.folder,
            env={**kept, "HOME": str(self.folder), "MRQ_TMP": str(self.folder / "tmp"), **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fail(self, *argv, code=1, **settings):
        """Run it to its end; what it says on standard error, which holds no password and no traceback."""
        process = self.start(*argv, **settings)
        try:
            _, err = process.communicate(timeout=40)
        finally:
            process.kill()
        assert process.returncode == code, err
        assert "Traceback" not in err
        assert "hidden" not in err
        return err


@pytest.fixture
def shell(tmp_path, rabbitmq, redis_server):
    (tmp_path / "tmp").mkdir()
    return Shell(tmp_path, rabbitmq, redis_server)


def test_wrong_urls_are_refused_by_name(shell):
    err = shell.fail("mrq.worker", code=2, AMQP_URL="http://u:hidden@h/")
    assert "MRQ_AMQP_URL must be a URL such as amqp://HOST:5672/VHOST, not one with http://" in err
    err = shell.fail("mrq.worker", code=2, REDIS_URL="")
    assert "MRQ_AMQP_URL is set and MRQ_REDIS_URL isn't" in err
    err = shell.fail("mrq.worker", code=2, AMQP_URL="", REDIS_URL="")
    assert "amqp_url and redis_url are not set" in err


def test_a_wrong_password_of_rabbitmq_and_a_host_that_is_not_there(shell, rabbitmq):
    err = shell.fail("mrq.worker", AMQP_URL=rabbitmq.url_as("guest", "hidden"))
    assert "refuses user guest: wrong user or password" in err
    gone = f"{rabbitmq.url.rpartition('/')[0]}/nowhere"
    err = shell.fail("mrq.worker", AMQP_URL=gone)
    assert "virtual host nowhere" in err


def test_a_wrong_password_of_redis(shell, redis_server):
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", redis_server.prefix, "on", ">right", "~*", "+@all")
        try:
            at = redis_server.url.removeprefix("redis://")
            err = shell.fail("mrq.worker", REDIS_URL=f"redis://{redis_server.prefix}:hidden@{at}")
        finally:
            client.execute_command("ACL", "DELUSER", redis_server.prefix)
    assert f"refuses user {redis_server.prefix}" in err
    assert "check the name and password in redis_url or the secrets file" in err


@pytest.mark.parametrize("server", ["AMQP_URL", "REDIS_URL"])
def test_a_server_that_is_not_there_is_waited_for_and_said(shell, server):
    (port,) = free_ports(1)
    url = f"{'amqp' if server == 'AMQP_URL' else 'redis'}://127.0.0.1:{port}/0"
    began = time.monotonic()
    err = shell.fail("mrq.worker", "--timeout", "3s", **{server: url})
    assert 2.5 < time.monotonic() - began < 20
    lines = [line for line in err.splitlines() if f"127.0.0.1:{port}" in line]
    assert len(lines) >= 2, err  # that it is tried again, and then that it was in vain
    assert lines[-1].startswith("error: ")


def test_a_client_says_what_is_wrong_with_its_redis(shell, redis_server):
    (port,) = free_ports(1)
    gone = f"redis://:hidden@127.0.0.1:{port}/0"
    err = shell.fail("mrq", "jobs", "--timeout", "2s", "--cluster", gone)
    assert f"Redis at 127.0.0.1:{port} can't be reached" in err
    assert "trying again" in err
    err = shell.fail("mrq", "jobs", "--timeout", "1s")
    assert "no master answers yet: waiting" in err
    assert "no master has answered within 1 s: is one running?" in err


def test_a_worker_that_cannot_be_reached_says_so_itself_and_when_it_can(shell):
    advertised, bound = free_ports(2)
    shell.settings["MRQ_SHARED_ROOT"] = str(shell.folder / "shared")
    shell.start("mrq.master", "--init").communicate(timeout=40)
    at = ("--listen", f"127.0.0.1:{bound}", "--advertise", f"127.0.0.1:{advertised}")
    master = shell.start("mrq.master", "--root", str(shell.folder / "master"))
    worker = shell.start("mrq.worker", "--root", str(shell.folder / "root"), *at)
    forwarding = None
    said = []
    try:
        for line in worker.stderr:
            said.append(line)
            if "no tasks yet: " in line and forwarding is None:
                assert f"advertises 127.0.0.1:{advertised}, and the leader can't reach it" in line
                assert "--advertise" in line
                forwarding = forward(advertised, bound)
            if "taking tasks" in line:
                break
    finally:
        for process in (worker, master):
            process.terminate()
        _, err = worker.communicate(timeout=30)
        master.communicate(timeout=30)
        if forwarding is not None:
            forwarding.close()
    assert any("waiting for the leader to reach this worker" in line for line in said)
    assert "the leader has reached this worker: taking tasks" in said[-1]
    assert sum("no tasks yet" in line for line in [*said, *err.splitlines()]) == 1


def forward(port, to):
    """Pass on what comes to one local port to another, until the socket that is returned is closed."""
    listening = socket.create_server(("127.0.0.1", port))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                near, far = listening.accept()[0], socket.create_connection(("127.0.0.1", to))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    def pump(source, sink):
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(1 << 16):
                sink.sendall(data)

    threading.Thread(target=accept, daemon=True).start()
    return listening

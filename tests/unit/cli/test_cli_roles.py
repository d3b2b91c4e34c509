"""The flags of a master and a worker: one for each setting that it reads."""

import pytest

from mrq.cli.roles import line_of, role_command, run_role
from mrq.errors import OperatorError, UsageError
from mrq.settings.cluster import KEYS
from mrq.settings.table import Where

URLS = ["--amqp-url", "amqp://r/v", "--redis-url", "redis://q"]


@pytest.fixture(autouse=True)
def nothing_around(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MRQ_AMQP_URL", "MRQ_REDIS_URL", "MRQ_CLUSTER", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_flags_become_settings():
    line = line_of(
        "worker", [*URLS, "--map-slots=2", "--drain-timeout", "2m", "--worker-id", "w1", "--insecure"]
    )
    assert line is not None
    got = line.profile
    assert (got.map_slots, got.drain_timeout_s, got.worker_id) == (2, 120.0, "w1")
    assert got.insecure
    assert str(got.amqp_url) == "amqp://r:5672/v"
    assert got.sources["map_slots"] == "--map-slots"


@pytest.mark.parametrize("role", ["master", "worker"])
def test_a_role_has_a_flag_for_each_setting_that_it_reads(role, capfd):
    wanted = Where.MASTER if role == "master" else Where.WORKER
    names = {name for flag in role_command(role).flags for name in flag.names}
    assert {row.long for row in KEYS.values() if wanted in row.where} <= names
    assert line_of(role, ["--help"]) is None
    shown = capfd.readouterr().out
    assert all(name in shown for name in names)
    assert max(map(len, shown.splitlines())) <= 100


def test_what_a_role_refuses():
    with pytest.raises(
        UsageError, match="amqp_url and redis_url are not set: set MRQ_AMQP_URL and MRQ_REDIS_URL"
    ):
        line_of("master", [])
    with pytest.raises(
        UsageError, match=r"amqp_url \(--amqp-url\) is set and redis_url \(MRQ_REDIS_URL\) isn't"
    ):
        line_of("master", URLS[:2])
    with pytest.raises(UsageError, match=r"no flag --map-slot; did you mean --map-slots\?"):
        line_of("worker", [*URLS, "--map-slot", "2"])
    with pytest.raises(UsageError, match="takes flags only, not 'w1'"):
        line_of("worker", [*URLS, "w1"])


def test_a_master_may_be_asked_to_make_a_store():
    assert line_of("master", [*URLS, "--init"]).init
    assert not line_of("master", URLS).init
    with pytest.raises(UsageError, match="no flag --init"):
        line_of("worker", [*URLS, "--init"])


def test_what_a_role_raises_is_one_sentence_and_an_exit_code(capfd):
    def serve(line, console):
        raise OperatorError(f"no {line.profile.redis_url}")

    assert run_role("worker", ["--redis-url", "redis://:hidden@q", *URLS[:2]], serve) == 1
    assert capfd.readouterr().err == "error: no redis://:***@q:6379/0\n"
    assert run_role("worker", ["--nope"], serve) == 2
    assert run_role("worker", ["--help"], serve) == 0
    assert run_role("worker", URLS, lambda line, console: 0) == 0

"""The pulse of a role's loop, and the check that a healthcheck runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrq import health


def checked(path: Path | None) -> tuple[int, str]:
    env = {key: value for key, value in os.environ.items() if key != health.HEALTH_FILE}
    if path is not None:
        env[health.HEALTH_FILE] = str(path)
    done = subprocess.run([sys.executable, "-m", "mrq.health"], env=env, capture_output=True, text=True)
    return done.returncode, done.stderr.strip()


def test_a_loop_that_ticks_is_healthy(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "health"
    health.Pulse(path).tick()
    assert checked(path) == (0, "")


def test_a_loop_that_stopped_ticking_is_not(tmp_path: Path) -> None:
    path = tmp_path / "health"
    health.Pulse(path).tick()
    ticked = path.stat().st_mtime
    assert health.failing(path, now=ticked + 9.9) is None
    assert health.failing(path, now=ticked + 11) == "the loop last ticked 11 s ago (at most 10)"
    os.utime(path, (ticked - 60, ticked - 60))
    code, why = checked(path)
    assert code == 1
    assert "the loop last ticked" in why


def test_a_tick_freshens_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "health"
    path.touch()
    os.utime(path, (1, 1))
    health.Pulse(path).tick()
    assert health.failing(path, now=path.stat().st_mtime) is None
    assert path.stat().st_mtime > 1


def test_ticks_are_written_once_a_second(tmp_path: Path) -> None:
    path = tmp_path / "health"
    pulse = health.Pulse(path)
    pulse.tick()
    os.utime(path, (1, 1))
    pulse.tick()
    assert path.stat().st_mtime == 1


def test_no_pulse_yet_or_no_more_is_unhealthy(tmp_path: Path) -> None:
    path = tmp_path / "health"
    assert checked(path)[0] == 1
    pulse = health.Pulse(path)
    pulse.tick()
    pulse.stop()
    assert checked(path)[1].startswith(f"no pulse at {path}")


def test_a_check_without_a_file_says_what_is_not_set() -> None:
    assert checked(None) == (1, "MRQ_HEALTH_FILE is not set")


def test_a_full_disk_never_fails_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    pulse = health.Pulse(tmp_path / "health")
    monkeypatch.setattr(Path, "touch", full)
    pulse.tick()
    assert checked(tmp_path / "health")[0] == 1


def test_the_environment_names_the_file_else_it_lies_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(health.HEALTH_FILE, raising=False)
    assert health.health_file(tmp_path) == tmp_path / "health"
    monkeypatch.setenv(health.HEALTH_FILE, "/elsewhere/pulse")
    assert health.health_file(tmp_path) == Path("/elsewhere/pulse")


def test_a_role_that_ticks_and_cant_work_is_unhealthy_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "health"
    pulse = health.Pulse(path)
    pulse.tick()
    assert checked(path)[0] == 0
    pulse.trouble("the data plane doesn't serve: it has said nothing for 10 s")
    pulse._due = 0.0
    pulse.tick()
    assert checked(path) == (1, "the data plane doesn't serve: it has said nothing for 10 s")
    pulse.trouble("")
    pulse._due = 0.0
    pulse.tick()
    assert checked(path)[0] == 0
    path.write_text("what an older boot wrote")
    health.Pulse(path).tick()
    assert checked(path)[0] == 0

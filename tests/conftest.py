"""The run's services in Docker, and the check that a run leaves nothing behind.

Where Docker is absent, tests that need it are skipped, and the summary names them; where CI is set, that
and any other skip of a contract or integration test is a failure.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import docker_run
import hypothesis
import pytest
from docker_run import Run
from services import (
    RABBITMQ,
    REDIS,
    Broker,
    Redis,
    broker_on,
    dropped,
    ensure_image,
    redis_on,
    shared,
    start_rabbitmq,
    start_redis,
)

# How fast this machine is at the moment is not a property of the code.
hypothesis.settings.register_profile(
    "mrq", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("mrq")

#: Fixtures that need an image: the image's name, and the version unless a test says another.
IMAGES = {
    "rabbitmq": ("rabbitmq", RABBITMQ),
    "redis_server": ("redis", REDIS),
    "private_rabbitmq": ("rabbitmq", RABBITMQ),
    "private_redis": ("redis", REDIS),
}
RUN = pytest.StashKey[Run]()
NO_DOCKER = "no Docker here: "
docker_missing = cache(docker_run.docker_missing)


def is_controller(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_configure(config: pytest.Config) -> None:
    # Whoever starts us in the background has Ctrl-C and hang-ups ignored, and children inherit that.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    if is_controller(config):
        run = Run.begin()
        if docker_missing() is None:
            for line in docker_run.sweep():
                print(line, file=sys.stderr)
        os.environ.update(run.environment())
        tempfile.tempdir = None  # what was found before TMPDIR was set
    else:
        run = Run(folder=docker_run.Path(config.workerinput["mrq_run"]))  # type: ignore[attr-defined]
    config.stash[RUN] = run


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["mrq_run"] = str(node.config.stash[RUN].folder)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Images that are missing are built before the tests: it takes longer than a test may."""
    if session.config.option.collectonly or docker_missing() is not None:
        return
    needed = {
        f"{image}:{item.callspec.params.get(name, version) if hasattr(item, 'callspec') else version}"
        for item in session.items
        for name, (image, version) in IMAGES.items()
        if name in getattr(item, "fixturenames", ())
    }
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        for image in sorted(needed):
            ensure_image(image)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a skipped contract or integration test has failed: nobody would see that it never ran."""
    report: pytest.TestReport = yield  # type: ignore[misc, assignment]
    integration = {"contract", "integration"} & set(item.path.parts) or set(IMAGES) & set(
        getattr(item, "fixturenames", ())
    )
    if report.skipped and in_ci() and integration and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure where CI is set: {report.longrepr}"
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [
        report.nodeid
        for report in terminalreporter.stats.get("skipped", ())
        if NO_DOCKER in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.section("not run: they need Docker")
        for name in sorted(skipped):
            terminalreporter.write_line(name)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The controller, once its workers have ended: shared services go, and nothing may be left."""
    run = session.config.stash[RUN]
    if not is_controller(session.config):
        return
    problems: list[str] = []
    if run.used_docker():
        shared_ones = {docker_run.json.loads(path.read_text())["id"] for path in run.folder.glob("*.json")}
        strays = set(run.containers()) - shared_ones
        problems += [f"container {each[:12]}, which a test started and did not remove" for each in strays]
        run.remove_containers()
    problems += docker_run.leftovers(run)
    if problems:
        print("\nerror: the run left behind:", *problems, sep="\n  ", file=sys.stderr)
        session.exitstatus = max(int(session.exitstatus), pytest.ExitCode.TESTS_FAILED)
    run.end()


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """This run, with a Docker to use; skips where there is none."""
    if (missing := docker_missing()) is not None:
        if in_ci():
            pytest.fail(f"{missing}; where CI is set, that is a failure")
        pytest.skip(NO_DOCKER + missing)
    return request.config.stash[RUN]


@pytest.fixture
def rabbitmq(request: pytest.FixtureRequest, run: Run) -> Iterator[Broker]:
    """The run's RabbitMQ (of the version given as parameter), with a virtual host for this test."""
    version = getattr(request, "param", RABBITMQ)
    with dropped(broker_on(shared(run, "rabbitmq", version), version)) as broker:
        yield broker


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, run: Run) -> Iterator[Redis]:
    """The run's Redis (of the version given as parameter), with a prefix of keys for this test."""
    version = getattr(request, "param", REDIS)
    with dropped(redis_on(shared(run, "redis", version), version)) as server:
        yield server


@pytest.fixture
def private_rabbitmq(run: Run) -> Iterator[Callable[..., Broker]]:
    """Makes RabbitMQs that this test may kill, pause, restart and configure; see `start_rabbitmq`."""
    with ExitStack() as stack:

        def make(version: str = RABBITMQ, **options: Any) -> Broker:
            container = start_rabbitmq(run, version, **options)
            stack.callback(container.remove)
            return broker_on(container, version)

        yield make


@pytest.fixture
def private_redis(run: Run) -> Iterator[Callable[..., Redis]]:
    """Makes Redises that this test may kill, pause, restart and configure; see `start_redis`."""
    with ExitStack() as stack:

        def make(version: str = REDIS, *options: str, **create: Any) -> Redis:
            container = start_redis(run, version, *options, **create)
            stack.callback(container.remove)
            return redis_on(container, version)

        yield make

"""The twins that every contract test runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from contract_kit import (
    BROKERS,
    STORES,
    BrokerFactory,
    Sides,
    beat,
    fence,
    memory_store,
    redis_store,
    spec,
)
from leading_kit import Leading, memory_leading, redis_leading
from services import Redis, dropped, redis_on, shared

from mrq.core.store_api import WriteAnswer


@pytest.fixture(params=BROKERS, ids=lambda factory: factory.name)
def brokers(request: pytest.FixtureRequest) -> Iterator[BrokerFactory]:
    made = request.param(request)
    yield made
    made.close()


@contextmanager
def _redis(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """A Redis of the version given as parameter, with a prefix of its own."""
    container = shared(request.getfixturevalue("run"), "redis", request.param)
    with dropped(redis_on(container, request.param)) as server:
        assert isinstance(server, Redis)
        yield server


@contextmanager
def _sides(request: pytest.FixtureRequest, *, ready: bool = True) -> Iterator[Sides]:
    """Both sides of a store: the memory twin, or a Redis."""
    with ExitStack() as stack:
        if request.param == "memory":
            made = memory_store(ready=ready)
        else:
            made = redis_store(stack.enter_context(_redis(request)), ready=ready)
        stack.callback(made.close)
        yield made


@pytest.fixture(params=STORES)
def leading(request: pytest.FixtureRequest) -> Iterator[Leading]:
    """The lease, the requests, clients' links and blobs of one store."""
    with ExitStack() as stack:
        if request.param == "memory":
            made = memory_leading()
        else:
            made = redis_leading(stack.enter_context(_redis(request)))
        stack.callback(made.close)
        yield made


@pytest.fixture(params=STORES)
def empty(request: pytest.FixtureRequest) -> Iterator[Sides]:
    """A ready store without jobs."""
    with _sides(request) as made:
        yield made


@pytest.fixture
def store(empty: Sides) -> Sides:
    """A ready store with job `j` begun, and boot b1 of worker w1 heard of (numbers begin with 1)."""
    assert empty.leader.begin(spec(), b"code", fence()) is WriteAnswer.WRITTEN
    assert empty.worker.beat(beat(0)) is not None
    return empty


@pytest.fixture(params=STORES)
def unready(request: pytest.FixtureRequest) -> Iterator[Sides]:
    """A store that no leader has opened yet."""
    with _sides(request, ready=False) as made:
        yield made

"""Samples a map's keys for a total order."""

from __future__ import annotations

import math
import random
from itertools import islice
from typing import Any, Final

from mrq.codec.columns import encode_column
from mrq.codec.types import PLAIN_KEYS, carried_key
from mrq.core.model import TaskResult
from mrq.errors import DataError
from mrq.shuffle.budget import column_cost
from mrq.shuffle.collect import STEP_MAX, Sink
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.feed import Feed, Pairs, locate

#: Keys of one map's sample, at most.
SAMPLE_MAX: Final = 10_000
#: Bytes of one map's sample, by cost, at most (but for one key): huge keys make it thinner.
SAMPLE_COST_MAX: Final = 16 << 20


def run_sample(attempt: Attempt) -> TaskResult:
    """Run the map for its keys alone. Raises what `run_map` does."""
    sink = SampleSink(f"mrq-sample:{attempt.spec.seed}:{attempt.order.task.index}")
    feed = Feed(attempt, sink)
    feed.run()
    error: DataError | None = None
    try:
        sample = encode_column(sink.keys, keys=True)
    except DataError as exc:
        error = exc
    if error is not None:
        if not attempt.order.careful:
            locate(attempt)
        raise error
    return attempt.result(
        records_in=feed.records,
        bytes_in=feed.bytes,
        records_out=len(sink.keys),
        bytes_out=len(sample),
        records_emitted=sink.emitted,
        sample=sample,
    )


class SampleSink(Sink):
    """A reservoir of keys, each pair equally likely: Li's algorithm L, which draws only for what it takes."""

    def __init__(self, seed: str) -> None:
        super().__init__()
        self.keys: list[Any] = []
        self._random = random.Random(seed)
        self._room = SAMPLE_MAX
        self._weight = 1.0
        self._next = 0  # the position of the next pair to take
        self._cost = 0

    def consume(self, pairs: Pairs) -> None:
        """Take every pair. Raises DataError."""
        for pair in pairs:
            keys = [carried_key(pair[0])]
            append = keys.append
            for key, _ in islice(pairs, self._step):
                append(key if type(key) in PLAIN_KEYS else carried_key(key))
            fits = SAMPLE_COST_MAX * len(keys) // (16 * (column_cost(keys) + 1))
            self._step = max(1, min(self._step * 2, fits, STEP_MAX))
            self._offer(keys)

    def _offer(self, keys: list[Any]) -> None:
        start = self._emitted
        self._emitted += len(keys)
        while self._next < self._emitted:
            key = keys[self._next - start]
            if len(self.keys) < self._room:
                self.keys.append(key)
                self._cost += column_cost([key])
                self._next += 1
                if len(self.keys) == self._room:
                    self._skip()
            else:
                slot = self._random.randrange(self._room)
                self._cost += column_cost([key]) - column_cost([self.keys[slot]])
                self.keys[slot] = key
                self._skip()
            if self._cost > SAMPLE_COST_MAX and len(self.keys) > 1:
                self._thin()

    def _skip(self) -> None:
        """Draw how many pairs to pass over."""
        draw = self._random.random
        self._weight *= math.exp(math.log(1.0 - draw()) / self._room)
        self._next += int(math.log(1.0 - draw()) / math.log1p(-self._weight)) + 1

    def _thin(self) -> None:
        """Half the sample, and from now on half the room."""
        self._random.shuffle(self.keys)
        self._room = max(1, len(self.keys) // 2)
        del self.keys[self._room :]
        self._cost = column_cost(self.keys)
        self._weight = self._room / self._emitted if self._emitted > self._room else 0.5

"""Chains of stages that are drawn, run by `mrq.testing.run`, against the same in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import mrq

Pair = tuple[int, int]
#: Of each map by its name, the pairs that it makes of one.
MAPS: dict[str, Callable[[int, int], list[Pair]]] = {
    "same": lambda key, value: [(key, value)],
    "swap": lambda key, value: [(value % 5, key)],
    "twice": lambda key, value: [(key, value), (key + 1, value * 3)],
    "odd": lambda key, value: [(key, value)] if value % 2 else [],
    "batch": lambda key, value: [(key % 3, value)],
}
#: Of each reduce by its name, the pairs that it makes of a key and all its values in order.
REDUCES: dict[str, Callable[[int, list[int]], list[Pair]]] = {
    "sum": lambda key, values: [(key, sum(values))],
    "count": lambda key, values: [(key, len(values))],
    "max": lambda key, values: [(key, max(values))],
    "top": lambda key, values: [(key, value) for value in values[-2:]],
    "identity": lambda key, values: [(key, value) for value in values],
    "added": lambda key, values: [(key, sum(values))],
    "ends": lambda key, values: [(key, values[0]), (key + 7, values[-1])],
}
BUILT_INS = {
    "sum": mrq.sum,
    "count": mrq.count,
    "max": mrq.max,
    "top": mrq.top(2),
    "identity": mrq.identity,
}


class Drawn(mrq.Job):
    """`plan`: of each stage its map, its reduce or "", how many reducers, whether its order is total."""

    plan: list[tuple[str, str, int, bool]]

    def stages(self) -> list[mrq.Stage]:
        return [self.stage(*row) for row in self.plan]

    def stage(self, maps: str, reduce: str, reducers: int, total: bool) -> mrq.Stage:
        made: dict[str, Any] = {"map_split" if maps == "batch" else "map": getattr(self, maps)}
        if reduce:
            made |= {"reduce": BUILT_INS.get(reduce) or getattr(self, reduce), "reducers": reducers}
            made |= {"total_order": total, "sort_values": reduce == "ends"}
        if reduce == "added":
            made["combine"] = self.added
        return mrq.Stage(**made)

    def same(self, key: int, value: int) -> Iterator[Pair]:
        self.counters["same"] += 1
        yield from MAPS["same"](key, value)

    def swap(self, key: int, value: int) -> list[Pair]:
        return MAPS["swap"](key, value)

    def twice(self, key: int, value: int) -> Iterator[Pair]:
        yield from MAPS["twice"](key, value)

    def odd(self, key: int, value: int) -> Iterator[Pair]:
        yield from MAPS["odd"](key, value)

    def batch(self, records: Iterable[Pair]) -> Iterator[Pair]:
        held = list(records)
        for key, value in held:
            yield from MAPS["batch"](key, value)

    def added(self, key: int, values: Iterable[int]) -> Iterator[int]:
        yield sum(values)

    def ends(self, key: int, values: Iterable[int]) -> Iterator[Any]:
        found = list(values)
        yield found[0]
        yield mrq.Pair(key + 7, found[-1])


def plain(plan: list[tuple[str, str, int, bool]], records: list[Pair]) -> list[Pair]:
    """What the stages give, in some order."""
    for maps, reduce, _, _ in plan:
        records = [pair for record in records for pair in MAPS[maps](*record)]
        if reduce:
            groups: dict[int, list[int]] = {}
            for key, value in records:
                groups.setdefault(key, []).append(value)
            records = [
                pair for key, values in groups.items() for pair in REDUCES[reduce](key, sorted(values))
            ]
    return records


STAGES = st.tuples(
    st.sampled_from(sorted(MAPS)), st.sampled_from(["", *sorted(REDUCES)]), st.integers(1, 3), st.booleans()
)
RECORDS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 50)), max_size=12)


@settings(max_examples=40, deadline=None)
@given(plan=st.lists(STAGES, min_size=1, max_size=4), records=RECORDS)
def test_stages_that_are_drawn_give_what_plain_python_does(
    plan: list[tuple[str, str, int, bool]], records: list[Pair]
) -> None:
    found = mrq.testing.run(Drawn(plan=plan), records)
    assert sorted(found) == sorted(plain(plan, records))
    _, reduce, reducers, total = plan[-1]
    if reduce and reduce != "ends" and (total or reducers == 1):
        assert [key for key, _ in found] == sorted(key for key, _ in found)

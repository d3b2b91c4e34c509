"""Which jobs the grid runs: few enough cases that every legal pair of choices is in one of them.

`DIMENSIONS` are the choices, `RULES` what can't go together: a *refused* combination is an error by name
before anything runs, an *undefined* one isn't tried (its result depends on what nobody promised). `cases()`
covers every pair that some legal case has, and every triple of `TRIPLES`, always the same way for one seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

SEED = 9

FOLDS = ("sum", "count", "min", "max", "mean")
CHOOSING = ("top", "bottom", "top_key", "bottom_key", "top_named")
BUILT_IN = (*FOLDS, *CHOOSING, "identity", "collect")
USERS = ("generator", "list", "values", "iterator", "pair", "early", "unread", "nothing", "refilled")

DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "reduce": ("none", *BUILT_IN, *USERS),
    "map": ("map", "map_split", "map_block"),
    "gives": ("generator", "list", "iterator", "dict", "refilled", "nothing"),
    "combine": ("none", "generator", "list", "refilled"),
    "engine": ("local", "testing", "cluster"),
    "sort_values": ("no", "yes"),
    "order": ("hashed", "total"),
    "partition": ("no", "yes"),
    "reducers": ("1", "2", "3"),
    "memory": ("plenty", "tiny"),
    "bad": ("none", "allowed", "map", "line", "value", "partition", "reduce"),
    "keys": ("few", "mixed", "rest", "one", "tuple", "int"),
    "values": ("ones", "int", "number", "atom", "rest", "place", "large", "pieces", "nested"),
    "input": ("text", "jsonl", "records", "whole"),
    "encoding": ("utf-8", "none", "latin-1"),
    "shape": ("files", "cut", "some empty", "empty", "single"),
    "packed": ("none", "gz", "bz2", "xz", "zst"),
    "output": ("text", "lines", "jsonl", "records"),
    "compression": ("none", "gz", "bz2", "xz", "zst"),
    "hooks": ("no", "yes"),
    "given": ("keywords", "arguments"),
}
NAMES = tuple(DIMENSIONS)
#: Where more than two features have met badly before.
TRIPLES = (
    ("reduce", "sort_values", "order"),
    ("reduce", "sort_values", "memory"),
    ("reduce", "map", "bad"),
    ("map", "gives", "bad"),
)

#: Choices in whose company the others show nothing.
VACUOUS = (("shape", "empty"), ("shape", "single"), ("gives", "nothing"), ("reduce", "nothing"))

Choice = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Case:
    """One choice in every dimension."""

    number: int
    choice: Choice

    def __getattr__(self, name: str) -> str:
        try:
            return self.choice[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def name(self) -> str:
        return f"Case{self.number:03d}"

    def __str__(self) -> str:
        return f"{self.name} " + " ".join(f"{name}={value}" for name, value in self.choice.items())


@dataclass(frozen=True)
class Rule:
    """What `breaks` is true of is no legal case. `refusal`: words of the error, or None: undefined."""

    names: tuple[str, ...]
    breaks: Callable[..., bool]
    refusal: str | None = None


#: Without what is bad in them there would be nothing to skip: these ask for skip_bad_records.
SKIPS = ("allowed", "map", "line", "value", "partition", "reduce")
PICKS = ("min", "max", "top", "bottom", "top_named")
#: Values that have a place in the order of keys.
ORDERED = ("ones", "int", "number", "atom", "rest", "place", "large")
NUMERIC = ("ones", "int", "number")

RULES = (
    # Refused by name, as docs/job-guide.md says.
    Rule(("map", "input"), lambda m, i: m == "map_block" and i in ("records", "whole"), "map_block"),
    Rule(("reduce", "combine"), lambda r, c: r == "none" and c != "none", "combine"),
    Rule(("reduce", "partition"), lambda r, p: r == "none" and p == "yes", "partition"),
    Rule(("reduce", "sort_values"), lambda r, s: r == "none" and s == "yes", "sort_values"),
    Rule(("reduce", "order"), lambda r, o: r == "none" and o == "total", "total"),
    Rule(("reduce", "combine"), lambda r, c: r in BUILT_IN and c != "none", "combine"),
    Rule(("order", "partition"), lambda o, p: o == "total" and p == "yes", "partition"),
    Rule(("map", "bad"), lambda m, b: m == "map_split" and b in SKIPS, "map_split"),
    Rule(("encoding", "input"), lambda e, i: e != "utf-8" and i != "text", "encoding"),
    Rule(("reduce", "reducers"), lambda r, n: r == "none" and n != "1", "no reduce"),
    # Not refused, and not one result.
    Rule(("gives", "map"), lambda g, m: g == "dict" and m != "map_block"),
    Rule(("gives", "shape"), lambda g, s: g == "dict" and s == "cut"),  # a piece's last line may come alone
    Rule(("gives", "bad"), lambda g, b: g == "dict" and b in ("map", "value", "partition")),
    Rule(("gives", "values"), lambda g, v: g == "refilled" and v not in ("nested", "pieces")),
    Rule(("reduce", "values"), lambda r, v: r in ("sum", "mean") and v not in NUMERIC),
    Rule(
        ("reduce", "values"),
        lambda r, v: r in PICKS and v not in ORDERED,
    ),
    Rule(("sort_values", "values"), lambda s, v: s == "yes" and v not in ORDERED),
    Rule(("combine", "values"), lambda c, v: c != "none" and v not in ("ones", "int", "pieces")),
    Rule(("combine", "reduce"), lambda c, r: c != "none" and r in ("values", "early")),
    Rule(("combine", "values"), lambda c, v: c == "refilled" and v != "pieces"),
    Rule(("map", "values"), lambda m, v: m == "map_block" and v == "place"),
    # What isn't there to be bad.
    Rule(("bad", "input"), lambda b, i: b == "line" and i != "jsonl"),
    Rule(("bad", "map"), lambda b, m: b == "line" and m != "map"),
    Rule(("bad", "gives"), lambda b, g: b != "none" and g == "nothing"),
    Rule(("bad", "reduce"), lambda b, r: b == "value" and r not in ("sum", "mean")),
    Rule(("bad", "reduce"), lambda b, r: b == "reduce" and r not in USERS),
    Rule(("bad", "partition"), lambda b, p: b == "partition" and p != "yes"),
    Rule(("bad", "reducers"), lambda b, n: b == "partition" and n == "1"),
    # A file that is cut is neither packed nor read whole; records are one block, which isn't cut.
    Rule(("shape", "packed"), lambda s, p: s == "cut" and p != "none"),
    Rule(("shape", "input"), lambda s, i: s == "cut" and i not in ("text", "jsonl")),
    # A test's records come from no file.
    Rule(("engine", "map"), lambda e, m: e == "testing" and m == "map_block"),
    Rule(("engine", "bad"), lambda e, b: e == "testing" and b != "none"),
    Rule(("engine", "encoding"), lambda e, n: e == "testing" and n != "utf-8"),
    Rule(("engine", "packed"), lambda e, p: e == "testing" and p != "none"),
    Rule(("engine", "shape"), lambda e, s: e == "testing" and s == "cut"),
    Rule(("engine", "output"), lambda e, o: e == "testing" and o != "records"),
    Rule(("engine", "compression"), lambda e, c: e == "testing" and c != "none"),
    Rule(("engine", "given"), lambda e, g: e == "testing" and g != "keywords"),
)


class _Space:
    """All choices as bits of one number, so that what a partial choice leaves open is one `&` a value."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.bits = [(name, value) for name in NAMES for value in DIMENSIONS[name]]
        self.number = {bit: at for at, bit in enumerate(self.bits)}
        self.of = {name: sum(1 << self.number[name, v] for v in DIMENSIONS[name]) for name in NAMES}
        self.all = (1 << len(self.bits)) - 1
        #: For each value the values that may stand beside it.
        self.beside = [self.all & ~self.of[name] | 1 << at for at, (name, _) in enumerate(self.bits)]
        for rule in rules:
            a, b = rule.names
            for x, y in product(DIMENSIONS[a], DIMENSIONS[b]):
                if rule.breaks(x, y):
                    i, j = self.number[a, x], self.number[b, y]
                    self.beside[i] &= ~(1 << j)
                    self.beside[j] &= ~(1 << i)
        self.telling = self.all & ~sum(1 << self.number[bit] for bit in VACUOUS)

    def open(self, chosen: Iterable[int], within: int) -> int | None:
        """What may still be chosen; None where the values can't stand beside each other."""
        chosen = list(chosen)
        for at in chosen:
            within &= self.beside[at]
        return within if all(within >> at & 1 for at in chosen) else None

    def complete(
        self, left: int, names: Sequence[str], ranked: Callable[[int, list[int]], Sequence[int]]
    ) -> int | None:
        """A legal case within `left`, as bits; each dimension's values are tried in the order of `ranked`."""
        names = [name for name in names if left & self.of[name]]
        if len(names) < len(NAMES):
            return None
        name = next((n for n in names if (m := left & self.of[n]) & (m - 1)), None)
        if name is None:
            return left
        for at in ranked(left, _set_bits(left & self.of[name])):
            found = self.complete(left & self.beside[at], names, ranked)
            if found is not None:
                return found
        return None


def _set_bits(mask: int) -> list[int]:
    found = []
    while mask:
        found.append((mask & -mask).bit_length() - 1)
        mask &= mask - 1
    return found


def targets(space: _Space) -> Iterator[tuple[int, bool]]:
    """Every pair, and every triple of `TRIPLES`, that some legal case has, as bits; and whether a case that
    has data can have it: then only such a one counts."""
    for names in [*combinations(NAMES, 2), *TRIPLES]:
        for values in product(*(DIMENSIONS[name] for name in names)):
            chosen = [space.number[bit] for bit in zip(names, values, strict=True)]
            for within in (space.telling, space.all):
                left = space.open(chosen, within)
                if left is not None and space.complete(left, NAMES, lambda _, values: values) is not None:
                    yield sum(1 << at for at in chosen), within == space.telling
                    break


@cache
def cases(seed: int = SEED) -> tuple[Case, ...]:
    """The cases: a new one for the first target that none has yet, chosen so that it has many others."""
    chance = random.Random(seed)
    space = _Space(RULES)
    missing = dict(targets(space))
    wanted_beside: dict[int, int] = dict.fromkeys(range(len(space.bits)), 0)
    found: list[Case] = []

    def count() -> None:
        """For each value, the values that it was in no case with."""
        for at in wanted_beside:
            wanted_beside[at] = 0
        for target in missing:
            if len(bits := _set_bits(target)) == 2:
                wanted_beside[bits[0]] |= 1 << bits[1]
                wanted_beside[bits[1]] |= 1 << bits[0]

    while missing:
        count()
        wanted, telling = next(iter(missing.items()))
        left = space.open(_set_bits(wanted), space.telling if telling else space.all)
        assert left is not None
        names = chance.sample(NAMES, len(NAMES))

        def ranked(left: int, values: list[int]) -> list[int]:
            """Those first that most of what is chosen was never beside."""
            chosen = sum(m for name in NAMES if not (m := left & space.of[name]) & (m - 1))
            chance.shuffle(values)
            return sorted(values, key=lambda at: (wanted_beside[at] & chosen).bit_count(), reverse=True)

        choice = space.complete(left, names, ranked)
        assert choice is not None
        found.append(_case(space, len(found), choice))
        has_data = not choice & ~space.telling
        for target, needs_data in list(missing.items()):
            if target & choice == target and (has_data or not needs_data):
                del missing[target]
    return tuple(found)


def uncovered(found: Sequence[Case], seed: int = SEED) -> Iterator[str]:
    """The targets that none of the cases has."""
    space = _Space(RULES)
    masks = [sum(1 << space.number[bit] for bit in case.choice.items()) for case in found]
    for target, needs_data in targets(space):
        if not any(mask & target == target and not (needs_data and mask & ~space.telling) for mask in masks):
            yield " ".join("=".join(space.bits[at]) for at in _set_bits(target))


def _case(space: _Space, number: int, choice: int) -> Case:
    return Case(number, dict(space.bits[at] for at in _set_bits(choice)))


def refused(seed: int = SEED, of_each: int = 4) -> Iterator[tuple[Rule, Case]]:
    """For every rule that is refused some cases that break it and no other."""
    chance = random.Random(seed)
    number = 900
    for rule in [rule for rule in RULES if rule.refusal]:
        a, b = rule.names
        space = _Space([other for other in RULES if other is not rule])
        broken = [((a, x), (b, y)) for x, y in product(DIMENSIONS[a], DIMENSIONS[b]) if rule.breaks(x, y)]
        chance.shuffle(broken)
        for some in (broken * of_each)[:of_each]:
            left = space.open([space.number[bit] for bit in (*some, ("engine", "local"))], space.telling)
            names = chance.sample(NAMES, len(NAMES))
            found = left and space.complete(left, names, lambda _, values: chance.sample(values, len(values)))
            if found:
                yield rule, _case(space, number, found)
                number += 1

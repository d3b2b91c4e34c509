"""Chunks of the pairs that user code yields, each pair made what is carried before the next one is pulled.

These are the hot loops of every map whose values are kept. What is plain costs a comparison, tuples are
looked into here, and only the rest, which is copied or refused, costs a call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mrq.codec.types import ATOMS, PLAIN_KEYS, NoneType, carried_key, carried_other
from mrq.shuffle.fold import Columns


def listed(pairs: Iterator[tuple[Any, Any]], count: int, lists: defaultdict[Any, list[Any]]) -> list[Any]:
    """Append the values of up to so many pairs to the lists of their keys; all of them, in order, none at the
    end. Raises DataError for what can't be carried."""
    atoms, plain_keys = ATOMS, PLAIN_KEYS
    kind = key_kind = NoneType  # plain types, of what came last
    column: list[Any] = []
    add = column.append
    for key, value in islice(pairs, count):
        if type(key) is not key_kind:
            if type(key) in plain_keys:
                key_kind = type(key)
            else:
                key = carried_key(key)
        if type(value) is not kind:
            if type(value) is tuple or type(value) is list:
                if type(value) is list:
                    value = value.copy()
                for item in value:
                    if type(item) not in atoms:
                        value = carried_other(value)
                        break
            elif type(value) in atoms:
                kind = type(value)
            else:
                value = carried_other(value)
        lists[key].append(value)
        add(value)
    return column


def columns(pairs: Iterator[tuple[Any, Any]], count: int) -> Columns | None:
    """Up to so many pairs as two columns, None at the end. Raises DataError for what can't be carried."""
    atoms, plain_keys = ATOMS, PLAIN_KEYS
    kind = key_kind = NoneType  # plain types, of what came last
    keys: list[Any] = []
    values: list[Any] = []
    add_key, add_value = keys.append, values.append
    for key, value in islice(pairs, count):
        if type(key) is not key_kind:
            if type(key) in plain_keys:
                key_kind = type(key)
            else:
                key = carried_key(key)
        if type(value) is not kind:
            if type(value) is tuple or type(value) is list:
                if type(value) is list:
                    value = value.copy()
                for item in value:
                    if type(item) not in atoms:
                        value = carried_other(value)
                        break
            elif type(value) in atoms:
                kind = type(value)
            else:
                value = carried_other(value)
        add_key(key)
        add_value(value)
    return (keys, values) if keys else None

"""Paths of a client as the cluster opens them, and back."""

from __future__ import annotations

import pytest

from mrq.core.pathmap import PathMap, split_pattern

MAP = PathMap.of([("data", "/data"), ("data/raw", "/raw/"), ("/", "/host")], "/home/me")


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("/home/me/data", "/data"),
        ("/home/me/data/a/b.txt", "/data/a/b.txt"),
        ("/home/me/data/raw/x", "/raw/x"),
        ("/home/me/database/x", "/host/home/me/database/x"),
        ("/etc", "/host/etc"),
    ],
)
def test_the_longest_folder_counts_there_and_back(here: str, there: str) -> None:
    assert MAP.to_cluster(here) == there
    assert MAP.to_client(there) == here


def test_what_no_pair_holds_has_no_place() -> None:
    one = PathMap.of([("/home/me/data", "/data")], "/")
    assert one.to_cluster("/home/me/datum") is None
    assert one.to_client("/home/me/data") is None
    assert PathMap().to_cluster("/x") is None


@pytest.mark.parametrize(
    ("told", "here"),
    [
        ("/data/out exists", "/home/me/data/out exists"),
        (
            "took over /data/.o_r.mrq from job j, which had ended",
            "took over /home/me/data/.o_r.mrq from job j,",
        ),
        ("the disk of /data is full", "the disk of /home/me/data is full"),
        ("/raw/x: can't be read; see /data.", "/home/me/data/raw/x: can't be read; see /home/me/data."),
        ("(/data/.mrq), '/data', /data:", "(/home/me/data/.mrq), '/home/me/data', /home/me/data:"),
        ("/home/me/data/in, /mnt/data/in, /database, /data.old, data/x, a-/data", None),
        ("redis://h/data", None),
    ],
)
def test_a_sentence_of_the_clusters_has_this_machines_paths(told: str, here: str | None) -> None:
    found = MAP.in_text(told)
    assert found == told if here is None else found.startswith(here)
    assert PathMap().in_text(told) == told


def test_a_path_of_this_machines_is_not_taken_for_the_clusters() -> None:
    inside = PathMap.of([("/data/me", "/data")], "/")
    assert inside.in_text("/data/me/in, /data/out") == "/data/me/in, /data/me/out"


@pytest.mark.parametrize(
    ("spelled", "folder", "pattern"),
    [
        ("data/*/x.txt", "data/", "*/x.txt"),
        ("./a//b/[xy].gz", "./a//b/", "[xy].gz"),
        ("*.txt", "", "*.txt"),
        ("/*.txt", "/", "*.txt"),
        ("a/**", "a/", "**"),
        ("a/b", "a/b", ""),
    ],
)
def test_a_pattern_begins_with_its_first_wildcard(spelled: str, folder: str, pattern: str) -> None:
    assert split_pattern(spelled) == (folder, pattern)

"""Trees with and without links: what is found, under which name, in which order, and how soon."""

from __future__ import annotations

import glob
import os
import random
import stat as stats
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from mrq.core.pathmap import MAGIC, split_pattern
from mrq.errors import InputError
from mrq.io import inputs

HIDDEN = ("_", ".")


def before(arg: str) -> list[str]:
    """As it was found by `glob` and a walk in order of names: the oracle for trees without links."""
    names: dict[tuple[int, int], str] = {}
    is_name = os.path.lexists(arg) or MAGIC.isdisjoint(arg)
    matches = [arg] if is_name else sorted(_matches(arg))
    if not matches:
        raise InputError("matches no file")
    for match in matches:
        stat = os.stat(match)
        for name in _walk(match) if stats.S_ISDIR(stat.st_mode) else [match]:
            found = os.stat(name)
            names.setdefault((found.st_dev, found.st_ino), name)
    return list(names.values())


def _matches(arg: str) -> Iterator[str]:
    folder, pattern = split_pattern(arg)
    root = arg[: len(arg) - len(pattern)]
    if folder.strip("/"):
        folder = folder.rstrip("/") + "/"
    for found in glob.iglob(pattern, root_dir=root or None, recursive=True):
        if found.endswith("/") and not os.path.isdir(os.path.join(root, found)):
            continue  # `glob` before Python 3.12: `a/**` of a file a, which then can't be read
        whole_tree = "**" in arg.split("/") and os.path.isdir(os.path.join(root, found))
        if not _is_hidden(folder + found, arg) and not whole_tree:
            yield folder + found


def _is_hidden(match: str, pattern: str) -> bool:
    spelled = {part for part in pattern.split("/") if part.startswith(HIDDEN)}
    return any(
        part.startswith(HIDDEN)
        and part not in (".", "..")
        and not any(fnmatchcase(part, each) for each in spelled)
        for part in match.split("/")
    )


def _walk(arg: str) -> Iterator[str]:
    prefix = arg if arg.endswith("/") else arg + "/"
    for name in sorted(os.listdir(arg)):
        if name.startswith(HIDDEN):
            continue
        if os.path.isdir(prefix + name):
            yield from _walk(prefix + name)
        else:
            yield prefix + name


NAMES = (
    "a",
    "b",
    "a.txt",
    "b.txt",
    "a!",
    "a-b",
    "ab",
    "[x]",
    "_h",
    ".h",
    "_h.txt",
    "é",
    "z\udce9",
    "A",
    "q;s",
)
PARTS = ("*", "**", "**", "a", "b", "?", "*.txt", "[ab]*", "a*", "_*", ".*", "..", ".", "*b", "[!a]*", "_h")


def grow(folder: Path, rng: random.Random, depth: int = 0) -> None:
    for name in rng.sample(NAMES, rng.randint(0, 6) if depth else 9):
        if rng.random() < 0.45 and depth < 4:
            (folder / name).mkdir()
            grow(folder / name, rng, depth + 1)
        else:
            (folder / name).write_text(name.encode("utf-8", "surrogateescape").hex())


def patterns(rng: random.Random) -> Iterator[str]:
    for _ in range(60):
        parts = [rng.choice(PARTS) for _ in range(rng.randint(1, 4))]
        yield "/".join(parts) + rng.choice(("", "", "", "/"))


@pytest.mark.parametrize("seed", range(14))
def test_without_links_all_is_as_glob_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Names and order, of random trees and patterns: relative, below a folder, and absolute."""
    rng = random.Random(seed)
    (tmp_path / "t").mkdir()
    grow(tmp_path / "t", rng)
    monkeypatch.chdir(tmp_path / "t")
    matched = 0
    for pattern in patterns(rng):
        for prefix in ("", "./", "../t/", f"{tmp_path}/t/", "a/", "a//"):
            arg = prefix + pattern
            try:
                expected: list[str] | None = before(arg)
            except (InputError, FileNotFoundError, NotADirectoryError):
                expected = None
            try:
                found: list[str] | None = [file.path for file in inputs.find_all([arg]).files]
            except InputError:
                found = None
            assert found == expected, arg
            matched += bool(found)
    assert matched > 10


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x\n")


def found(*args: str, cwd: Path, **more: bool) -> list[str]:
    return [each.path for each in inputs.find_all(args, cwd=str(cwd), **more).files]


@pytest.fixture
def maze(tmp_path: Path) -> Path:
    """`tree` links to itself and to its parent, `cross` has ten folders that link to each other."""
    file(tmp_path / "tree/z.txt")
    file(tmp_path / "tree/sub/b.txt")
    for name in ("again", "more"):
        link(tmp_path / "tree" / name, ".")
    link(tmp_path / "tree/sub/up", "..")
    for i in range(10):
        file(tmp_path / f"cross/d{i}/f.txt")
        for j in range(10):
            if i != j:
                link(tmp_path / f"cross/d{i}/to{j}", f"../d{j}")
    return tmp_path


@pytest.mark.parametrize("url", [False, True], ids=["path", "url"])
@pytest.mark.parametrize(
    "arg", ["tree", "tree/**", "tree/**/*.txt", "tree/*", "tree/**/**/*", "tr*/**/*.txt"]
)
def test_circles_are_found_once_without_a_link(maze: Path, arg: str, url: bool) -> None:
    expected = ["tree/sub/b.txt", "tree/z.txt"]
    if url:
        assert found(f"file://{maze}/{arg}", cwd=maze) == [f"file://{maze}/{name}" for name in expected]
    else:
        assert found(arg, cwd=maze) == expected


@pytest.mark.parametrize("arg", ["cross", "cross/**", "cross/**/*.txt", "cross/*", "cross/*/f.txt"])
def test_folders_that_link_to_each_other(maze: Path, arg: str) -> None:
    assert found(arg, cwd=maze) == [f"cross/d{i}/f.txt" for i in range(10)]


def test_names_through_links_where_there_is_no_other(tmp_path: Path) -> None:
    file(tmp_path / "away/deep/x.txt")
    file(tmp_path / "away/y.txt")
    file(tmp_path / "in/a.txt")
    link(tmp_path / "in/b/far", "../../away")
    link(tmp_path / "in/near", "../away")
    link(tmp_path / "in/y", "../away/y.txt")
    link(tmp_path / "in/0", "a.txt")
    expected = ["in/a.txt", "in/near/deep/x.txt", "in/y"]
    assert found("in", cwd=tmp_path) == expected
    assert found("in/**", cwd=tmp_path) == expected
    assert found("in/**/*.txt", cwd=tmp_path) == ["in/a.txt", "in/near/deep/x.txt", "in/near/y.txt"]
    assert found("in/0", cwd=tmp_path) == ["in/0"], "what is named itself keeps its name"


def test_the_shortest_of_many_ways(tmp_path: Path) -> None:
    file(tmp_path / "away/f")
    link(tmp_path / "in/a/b/c", "../../../away")
    link(tmp_path / "in/z/z", "../../away")
    link(tmp_path / "in/z/a", "../../away")
    assert found("in", cwd=tmp_path) == ["in/z/a/f"]


def test_a_chain_and_a_crowd_of_links(tmp_path: Path) -> None:
    """Thousands of links to one folder, and a chain of a hundred folders, are looked at once each."""
    file(tmp_path / "in/real/f.txt")
    for i in range(3000):
        link(tmp_path / f"in/l{i}", "real")
    for i in range(100):
        link(tmp_path / f"in/c{i}/next", f"../c{i + 1}")
        link(tmp_path / f"in/c{i}/first", "../c0")
    file(tmp_path / "in/c100/g.txt")
    began = time.process_time()
    assert found("in", cwd=tmp_path) == ["in/c100/g.txt", "in/real/f.txt"]
    assert found("in/**/*.txt", cwd=tmp_path) == ["in/c100/g.txt", "in/real/f.txt"]
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("target", "said"),
    [("nowhere", "No such file"), ("self", "Too many levels"), ("f.txt/x", "Not a directory")],
)
def test_links_that_lead_nowhere_are_refused_by_name(tmp_path: Path, target: str, said: str) -> None:
    file(tmp_path / "in/f.txt")
    link(tmp_path / "in/self", target)
    for arg in ("in", "in/self", "in/**", "in/*", "in/s*f"):
        with pytest.raises(InputError, match=rf"^in/self: can't be read: {said}.*link to {target}; mend or"):
            found(arg, cwd=tmp_path)
    assert found("in/*.txt", "in/**/*.txt", cwd=tmp_path) == ["in/f.txt"], "the pattern doesn't mean it"


@pytest.mark.parametrize("arg", ["in", "in/**", "in/**/*.txt", "in/*", "in/*/*.txt"])
def test_folders_that_cannot_be_listed_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arg: str
) -> None:
    file(tmp_path / "in/shut/f.txt")
    file(tmp_path / "in/open/f.txt")
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"^in/shut/?: the directory can't be read: Permission denied"):
        found(arg, cwd=tmp_path)


def test_out_behind_a_link_is_inside_too(tmp_path: Path) -> None:
    file(tmp_path / "in/f.txt")
    link(tmp_path / "in/sub/up", "../..")
    with pytest.raises(InputError, match="out lies inside the input directory in/sub/up"):
        inputs.find_all(["in"], cwd=str(tmp_path), out="out")


def test_hidden_files_are_counted_and_can_be_taken(tmp_path: Path) -> None:
    for name in (
        "a.txt",
        "_b.txt",
        ".c.txt",
        ".git/d.txt",
        ".git/e.txt",
        "sub/_SUCCESS",
        "sub/_bad/x",
        "sub/f.txt",
    ):
        file(tmp_path / "in" / name)
    for arg, files, folders in (
        ("in", 2, 1),
        ("in/*", 2, 1),
        ("in/**", 2, 1),
        ("in/sub/*", 0, 0),
        ("in/*/*", 0, 1),
        ("in/*.txt", 2, 0),
        ("in/**/*.txt", 2, 1),
        ("in/a.txt", 0, 0),
        ("in/sub", 0, 0),
        ("in/[a_]*.txt", 1, 0),
    ):
        finding = inputs.find_all([arg], cwd=str(tmp_path))
        assert (finding.hidden_files, finding.hidden_folders) == (files, folders), arg
    finding = inputs.find_all(["in", "in/*.txt"], cwd=str(tmp_path))
    assert (finding.hidden_files, finding.hidden_folders) == (2, 1), "each once"
    everything = [
        "in/.c.txt", "in/.git/d.txt", "in/.git/e.txt", "in/_b.txt", "in/a.txt", "in/sub/_SUCCESS",
        "in/sub/_bad/x", "in/sub/f.txt",
    ]  # fmt: skip
    for arg in ("in", "in/*", "in/**"):
        assert found(arg, cwd=tmp_path, hidden=True) == everything
    url = f"file://{tmp_path}/in"
    assert inputs.find_all([f"{url}/*.txt"]).hidden_files == 2
    assert len(inputs.find_all([url], hidden=True).files) == 8


def test_a_pattern_of_hidden_files_only_says_so(tmp_path: Path) -> None:
    file(tmp_path / "in/_a.txt")
    with pytest.raises(InputError, match=r"matches no file .*; 1 hidden file was .* `all_files=True`"):
        found("in/*.txt", cwd=tmp_path)


@pytest.mark.parametrize(
    "name", ["data[1].txt", "data[a-z].txt", "q?.txt", "st*ar.txt", "{br}.txt", "per%20.txt"]
)
def test_a_name_that_is_there_is_no_pattern(tmp_path: Path, name: str) -> None:
    file(tmp_path / name)
    file(tmp_path / "data1.txt")
    assert found(name, cwd=tmp_path) == [name]
    assert found(f"file://{tmp_path}/{name}", cwd=tmp_path) == [f"file://{tmp_path}/{name}"]
    file(tmp_path / "d[1]/x.txt")
    assert found("d[1]", cwd=tmp_path) == ["d[1]/x.txt"]
    assert found(f"file://{tmp_path}/d[1]", cwd=tmp_path) == [f"file://{tmp_path}/d[1]/x.txt"]


def test_other_drivers_too_ask_for_the_name_first() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    names = ("data[1].txt", "data1.txt", "_h.txt", "d[2]/x.txt", "out/_SUCCESS", "out/_bad/x", "out/part")
    for name in (f"/b/{each}" for each in names):
        memory.pipe(name, b"x\n")
    try:
        assert found("memory://b/data[1].txt", cwd=Path("/")) == ["memory://b/data[1].txt"]
        assert found("memory://b/d[2]", cwd=Path("/")) == ["memory:///b/d[2]/x.txt"]
        assert found("memory://b/data[0-9].txt", cwd=Path("/")) == ["memory:///b/data1.txt"]
        finding = inputs.find_all(["memory://b/*.txt"])
        assert (len(finding.files), finding.hidden_files) == (2, 1)
        for result in ("memory://b/out", "memory://b/out/*"):  # its marks aren't told as left out
            finding = inputs.find_all([result])
            assert (len(finding.files), finding.hidden_files) == (1, 0), result
    finally:
        memory.rm("/b", recursive=True)

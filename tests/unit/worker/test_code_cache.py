"""Codes shared by jobs: kept while used, the last few after that."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrq.errors import CorruptFileError, InternalError, OperatorError
from mrq.job import bundle
from mrq.worker import code_cache
from mrq.worker.code_cache import CodeCache


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    source = tmp_path / "a.py"
    source.write_text("x = 1\n")
    return bundle.pack({"a.py": str(source)})


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_the_last_few_that_nobody_uses_stay(tmp_path: Path, data: bytes) -> None:
    root, dropped = tmp_path / "code", list[str]()
    codes = CodeCache(str(root), dropped=dropped.append, kept_max=2)
    for number in range(4):
        code_cache.unpack(data, codes.use(f"j{number}", f"c{number}"), "j")
    assert codes.release("j0") == [f"{root}/c0"]
    codes.release("j1")
    codes.release("j2")
    assert dropped == [f"{root}/c0"]
    assert names(root) == ["c1", "c2", "c3"]
    codes.use("j4", "c1")  # no longer unused: c2 is the longest unused now
    codes.release("j3")
    codes.use("j5", "c4")
    codes.release("j5")
    assert dropped == [f"{root}/c0", f"{root}/c2"]
    assert names(root) == ["c1", "c3"]
    codes.close()
    assert not root.exists()


def test_a_code_is_released_by_its_last_job(tmp_path: Path, data: bytes) -> None:
    codes = CodeCache(str(tmp_path / "code"), dropped=lambda folder: None, kept_max=0)
    folder = codes.use("a", "c")
    codes.use("b", "c")
    code_cache.unpack(data, folder, "a")
    assert codes.release("a") == []
    assert Path(folder, "a.py").is_file()
    assert codes.release("b") == [folder]
    assert not Path(folder).exists()
    assert codes.release("b") == []


def test_what_cannot_be_unpacked_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CorruptFileError, match="damaged"):
        code_cache.unpack(b"rubbish", str(tmp_path / "code/c"), "j")
    with pytest.raises(OperatorError, match="job j's code can't be unpacked in"):
        code_cache.unpack(data, "/proc/none/code/c", "j")
    (tmp_path / "file").write_text("in the place of a folder of ours, which is put aside")
    code_cache.unpack(data, str(tmp_path / "file/c"), "j")
    assert (tmp_path / "file/c/a.py").is_file()
    with pytest.raises(InternalError, match="isn't a bundle's digest"):
        CodeCache(str(tmp_path), dropped=lambda folder: None).folder("../x")

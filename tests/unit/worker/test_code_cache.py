"""Codes shared by jobs: kept while used, the last few after that."""

from __future__ import annotations

import hashlib
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


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_the_last_few_that_nobody_uses_stay(tmp_path: Path) -> None:
    root, dropped = tmp_path / "code", list[str]()
    codes = CodeCache(str(root), dropped=dropped.append, kept_max=2)
    for number in range(4):
        Path(codes.use(f"j{number}", f"c{number}")).mkdir(parents=True)
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
    folder = codes.use("a", digest_of(data))
    codes.use("b", digest_of(data))
    code_cache.unpack(data, folder, "a")
    assert codes.release("a") == []
    assert Path(folder, "a.py").is_file()
    assert codes.release("b") == [folder]
    assert not Path(folder).exists()
    assert codes.release("b") == []


def test_what_cannot_be_unpacked_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CorruptFileError, match="damaged"):
        code_cache.unpack(b"rubbish", str(tmp_path / "code" / digest_of(b"rubbish")), "j")
    with pytest.raises(OperatorError, match="job j's code can't be unpacked in"):
        code_cache.unpack(data, f"/proc/none/code/{digest_of(data)}", "j")
    (tmp_path / "file").write_text("in the place of a folder of ours, which is put aside")
    code_cache.unpack(data, str(tmp_path / "file" / digest_of(data)), "j")
    assert (tmp_path / "file" / digest_of(data) / "a.py").is_file()
    with pytest.raises(InternalError, match="isn't a bundle's digest"):
        CodeCache(str(tmp_path), dropped=lambda folder: None).folder("../x")


def test_a_bundle_under_anothers_name_is_not_unpacked(tmp_path: Path, data: bytes) -> None:
    """A whole zip with other code in it, too: it would run."""
    folder = tmp_path / "code" / digest_of(b"another")
    with pytest.raises(
        CorruptFileError, match=r"code of job j isn't what its name says.*submit the job again"
    ):
        code_cache.unpack(data, str(folder), "j")
    assert not folder.exists()

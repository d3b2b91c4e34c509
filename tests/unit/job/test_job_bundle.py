"""The bundle: which files, which bytes, and unpacking it safely."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from mrq import planning
from mrq.errors import CorruptFileError, DiskFullError, JobDefinitionError
from mrq.job import bundle, imports
from mrq.job.load import load_job
from mrq.planning import Request

JOB = """import mrq

class J(mrq.Job):
    def map(self, key, line):
        yield line, 1
"""


def write(path: Path, text: str | bytes = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def files_of(file: Path) -> list[str]:
    return sorted(imports.follow(str(file), *imports.module_of(str(file))).files)


def test_local_imports_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "a.py", "import b\nimport json, os.path\nfrom c import name\nimport numpy\n")
    write(tmp_path / "b.py", "def f():\n    import d\n    from space.deep import inner\n")
    write(tmp_path / "c.py", "if False:\n    import a\n")
    write(tmp_path / "d.py", "try:\n    import missing\nexcept ImportError:\n    pass\n")
    write(tmp_path / "space" / "deep" / "inner.py")
    write(tmp_path / "space" / "deep" / "unused.py")
    write(tmp_path / "unused.py")
    write(tmp_path / "json.py")
    assert files_of(tmp_path / "a.py") == ["a.py", "b.py", "c.py", "d.py", "space/deep/inner.py"]


def test_packages_come_whole_with_their_data(tmp_path: Path) -> None:
    write(tmp_path / "a.py", "from pkg.sub import thing\n")
    write(tmp_path / "pkg" / "__init__.py", "import beside\n")
    write(tmp_path / "pkg" / "sub" / "__init__.py", "from .. import other\nfrom ..other import x\n")
    write(tmp_path / "pkg" / "other.py", "from . import third\n")
    write(tmp_path / "pkg" / "third.py", "from .sub.leaf import y\nimport far\n")
    write(tmp_path / "pkg" / "sub" / "leaf.py")
    write(tmp_path / "pkg" / "words.txt", "a")
    write(tmp_path / "pkg" / "data" / "table.bin", b"\0")
    for junk in ("__pycache__/other.cpython-311.pyc", ".hidden", ".git/config", "x.pyc"):
        write(tmp_path / "pkg" / junk)
    write(tmp_path / "beside.py")
    write(tmp_path / "far.py")
    assert files_of(tmp_path / "a.py") == [
        "a.py",
        "beside.py",
        "far.py",
        "pkg/__init__.py",
        "pkg/data/table.bin",
        "pkg/other.py",
        "pkg/sub/__init__.py",
        "pkg/sub/leaf.py",
        "pkg/third.py",
        "pkg/words.txt",
    ]


def test_installed_packages_below_the_root_are_not_local(tmp_path: Path) -> None:
    write(
        tmp_path / "a.py",
        "import lib.python3.site-packages\n".replace("site-packages", "x") + "import venv2\n",
    )
    write(tmp_path / "venv2" / "site-packages" / "thing" / "__init__.py")
    write(tmp_path / "lib" / "python3" / "x.py")
    assert files_of(tmp_path / "a.py") == ["a.py", "lib/python3/x.py"]
    write(tmp_path / "site-packages" / "inst.py")
    (tmp_path / "inst.py").symlink_to(tmp_path / "site-packages" / "inst.py")
    write(tmp_path / "b.py", "import inst")
    assert files_of(tmp_path / "b.py") == ["b.py", "inst.py"]


def test_a_symlinked_folder_of_a_package_brings_what_is_imported(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "__init__.py")
    write(tmp_path / "elsewhere" / "far.py")
    write(tmp_path / "root" / "linked" / "__init__.py")
    (tmp_path / "root" / "linked" / "sub").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "root" / "a.py", "import linked.sub.far")
    assert files_of(tmp_path / "root" / "a.py") == [
        "a.py",
        "linked/__init__.py",
        "linked/sub/__init__.py",
        "linked/sub/far.py",
    ]


def test_a_cycle_ends(tmp_path: Path) -> None:
    write(tmp_path / "a.py", "import b")
    write(tmp_path / "b.py", "import a, b")
    assert files_of(tmp_path / "a.py") == ["a.py", "b.py"]


def test_equal_code_is_equal_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        helpers = ["zeta", "alpha"] if name == "one" else ["alpha", "zeta"]
        for helper in helpers:
            write(folder / f"{helper}.py", f"NAME = {helper!r}\n")
        file = write(folder / "bundled.py", "import zeta, alpha\n" + JOB)
        os.utime(file, (1, 1) if name == "one" else (2_000_000_000, 2_000_000_000))
        os.chmod(file, 0o600 if name == "one" else 0o755)
        made.append(bundle.build(load_job(str(file))))
    assert made[0] == made[1]
    assert made[0].entry == "bundled:J"
    assert made[0].digest == hashlib.sha256(made[0].data).hexdigest()
    write(tmp_path / "two" / "zeta.py", "NAME = 1\n")
    assert bundle.build(load_job(str(tmp_path / "two" / "bundled.py"))).digest != made[0].digest


def test_too_large_lists_the_largest(tmp_path: Path) -> None:
    file = write(tmp_path / "large.py", "import fat\n" + JOB)
    write(tmp_path / "fat" / "__init__.py")
    for i in range(7):
        write(tmp_path / "fat" / f"data{i}.bin", bytes((i + 1) << 18))
    with pytest.raises(JobDefinitionError) as caught:
        bundle.build(load_job(str(file)), size_max=1 << 20)
    said = str(caught.value)
    assert "7.0 MiB, more than the 1.0 MiB" in said
    assert "fat/data6.bin (1.8 MiB), fat/data5.bin (1.5 MiB)" in said
    assert "data1.bin" not in said


def test_unpacked_code_is_imported_by_another_process(tmp_path: Path) -> None:
    write(tmp_path / "src" / "helperpkg" / "__init__.py", "from .inner import N\n")
    write(
        tmp_path / "src" / "helperpkg" / "inner.py",
        "from pathlib import Path\nN = (Path(__file__).parent / 'n.txt').read_text()\n",
    )
    write(tmp_path / "src" / "helperpkg" / "n.txt", "42")
    file = write(tmp_path / "src" / "shipped.py", "from helperpkg import N\n" + JOB + "    n: str = N\n")
    made = bundle.build(load_job(str(file)))
    folder = tmp_path / "code"
    bundle.unpack(made.data, str(folder))
    os.rename(tmp_path / "src", tmp_path / "gone")
    code = (
        f"from mrq.job.bundle import import_entry; cls = import_entry({str(folder)!r}, {made.entry!r})\n"
        "import sys; print(cls().n, cls.__module__, 'zipfile' in sys.modules, 'argparse' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert run.stdout == "42 shipped False False\n"


def test_import_entry_names_the_user_s_line(tmp_path: Path) -> None:
    write(tmp_path / "raisingentry.py", "import mrq\nraise KeyError('x')\n")
    with pytest.raises(
        JobDefinitionError, match=r"raisingentry\.py:2: KeyError: 'x': `raise KeyError\('x'\)`"
    ):
        bundle.import_entry(str(tmp_path), "raisingentry:J")
    write(tmp_path / "nojobentry.py", "class J: pass\n")
    with pytest.raises(JobDefinitionError, match=r"nojobentry:J is not a mrq\.Job"):
        bundle.import_entry(str(tmp_path), "nojobentry:J")
    with pytest.raises(JobDefinitionError, match="nojobentry"):
        bundle.import_entry(str(tmp_path), "nojobentry:K")


def zipped(name: str, *, mode: int = 0, method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, "x" * 100, method)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        zipped("../evil.py"),
        zipped("/etc/evil.py"),
        zipped("a/../../evil.py"),
        zipped("a//b.py"),
        zipped("a\\..\\evil.py"),
        zipped("./a.py"),
        zipped("folder/"),
        zipped("link.py", mode=0o120777),
        zipped("big.py", method=zipfile.ZIP_DEFLATED),
        b"not a zip",
        b"",
        zipped("a.py")[:-30],
        zipped("a.py").replace(b"xxx", b"xyx"),
    ],
)
def test_a_bad_bundle_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CorruptFileError, match="code bundle"):
        bundle.unpack(data, str(tmp_path / "in" / "code"))
    assert not (tmp_path / "in").exists() or not list((tmp_path / "in").iterdir())
    assert not list(tmp_path.rglob("evil*"))


def test_unpacking_is_done_once(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    bundle.unpack(zipped("a.py"), str(folder))
    bundle.unpack(zipped("b.py"), str(folder))
    assert os.listdir(folder) == ["a.py"]


def test_many_unpack_at_once(tmp_path: Path) -> None:
    data = bundle.pack({f"m{i}.py": __file__ for i in range(20)})
    folder, errors = tmp_path / "code", []

    def one() -> None:
        try:
            bundle.unpack(data, str(folder))
            assert len(os.listdir(folder)) == 20
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["code"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(DiskFullError, match="no space to unpack the job's code"):
        bundle.unpack(zipped("a.py"), str(tmp_path / "code"))
    assert os.listdir(tmp_path) == []


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobDefinitionError, match=r"can't read .*gone\.py, which the job needs"):
        bundle.pack({"gone.py": str(tmp_path / "gone.py")})


def shipped(file: Path, *paths: Path) -> list[str]:
    found = imports.follow(str(file), *imports.module_of(str(file)), [str(path) for path in paths])
    return sorted(found.files)


def test_what_no_import_names_can_be_shipped(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    job = write(root / "job.py", JOB)
    plugins = write(root / "plugins" / "a.py", "import helper\n").parent
    write(plugins / "table.csv", "1,2\n")
    write(plugins / ".hidden", "x")
    write(plugins / "deep" / "b.py", "from plugins import a\n")
    write(root / "helper.py")
    far = write(other / "far.py", "import near\n")
    write(other / "near.py")
    write(other / "untouched.py")
    package = write(other / "pack" / "__init__.py", "from . import inner\n").parent
    write(package / "inner.py")
    assert shipped(job) == ["job.py"]
    inside = ["helper.py", "job.py", "plugins/a.py", "plugins/deep/b.py", "plugins/table.csv"]
    assert shipped(job, plugins) == inside
    assert shipped(job, plugins, plugins / "a.py", root / "helper.py") == inside
    assert shipped(job, far) == ["far.py", "job.py", "near.py"]
    assert shipped(job, package) == ["job.py", "pack/__init__.py", "pack/inner.py"]
    assert shipped(job, plugins / "table.csv") == ["job.py", "plugins/table.csv"]


def test_what_cant_be_shipped_is_refused_by_name(tmp_path: Path) -> None:
    job = write(tmp_path / "root" / "job.py", JOB)
    clash = write(tmp_path / "other" / "job.py", JOB)
    for path, said in (
        (tmp_path / "nope", "nope, which should be shipped with the job, isn't there"),
        (write(tmp_path / "other" / "random.py"), "in the place of Python's own random; rename it"),
        (clash, "is job.py to executors already; rename one"),
        (write(tmp_path / "other" / "broken.py", "def f(:\n"), "broken.py:1: SyntaxError"),
    ):
        with pytest.raises(JobDefinitionError) as caught:
            shipped(job, path)
        assert said in str(caught.value)


def test_a_class_ships_what_is_beside_its_file_an_argument_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyword = JOB.replace("mrq.Job", "mrq.Job, ship=['beside.py']")
    job = write(tmp_path / "jobs" / "shipping_job.py", keyword)
    write(tmp_path / "jobs" / "beside.py")
    here = write(tmp_path / "here.py")
    write(tmp_path / "in.txt", "a\n")
    monkeypatch.chdir(tmp_path)
    for overrides, name in (
        ({}, "beside.py"),
        ({"ship": ["here.py"]}, "here.py"),
        ({"ship": [here]}, "here.py"),
    ):
        made = planning.draft(Request(ref=str(job), inputs=["in.txt"], overrides=overrides))
        with zipfile.ZipFile(io.BytesIO(made.code)) as archive:
            assert sorted(archive.namelist()) == sorted(["shipping_job.py", name])

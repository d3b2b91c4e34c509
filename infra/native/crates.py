"""Builds the native data path, `mrq/_native.abi3.so`, from the crates under mrq/native.

It needs cargo, and the crates of crates.txt: those that are here already, else a registry that answers
within 15 seconds. Without either mrq runs in pure Python, which is said, and is no error. No file of cargo's
with the address of a registry is committed: the lock file is made here, and held to crates.txt.

    python infra/native/crates.py            build, where the sources changed
    python infra/native/crates.py --test     run the tests of the crates
    python infra/native/crates.py --list     write crates.txt anew, after a change of a Cargo.toml
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CRATES: Final = ROOT / "mrq" / "native"
LOCK: Final = CRATES / "Cargo.lock"
LIST: Final = ROOT / "crates.txt"
TARGET: Final = ROOT / "build" / "native"
BUILT: Final = TARGET / "release" / "lib_native.so"
EXTENSION: Final = ROOT / "mrq" / "_native.abi3.so"
#: All that is asked of a registry, seconds.
FETCH_S: Final = 15
_HEAD: Final = "# Names and versions only: what the crates under mrq/native are built with.\n"


class Pure(Exception):
    """The extension can't be built here, and needn't be; the text says why."""


def build() -> None:
    """Make the extension anew. Raises Pure, SystemExit where the sources don't compile."""
    if not _run("build", "--release"):
        raise SystemExit("error: the native data path doesn't compile (above)")
    aside = EXTENSION.with_suffix(".partial")
    shutil.copyfile(BUILT, aside)
    aside.replace(EXTENSION)  # who has the old one loaded keeps it


def test() -> None:
    """Run the tests of the crate that knows no Python. Raises Pure, SystemExit where one fails."""
    if not _run("test", "--quiet", "--package", "mrq-core"):
        raise SystemExit("error: a test of the native data path failed (above)")


def _run(*arguments: str) -> bool:
    """Whether cargo could do this with the crates as they are listed. Raises Pure, SystemExit."""
    cargo = _cargo()
    settle(cargo)
    environment = {**os.environ, "PYO3_NO_PYTHON": "1", "PYO3_BUILD_EXTENSION_MODULE": "1"}
    command = [cargo, *arguments, "--locked", "--offline", "--target-dir", str(TARGET)]
    return subprocess.run(command, cwd=CRATES, env=environment).returncode == 0


def settle(cargo: str) -> None:
    """Have a lock file that is as crates.txt says, and every crate at hand. Raises Pure, SystemExit."""
    until = time.monotonic() + FETCH_S
    if LOCK.exists() and _locked() == _listed() and _asks(cargo, until, "fetch", "--locked", "--offline"):
        return
    LOCK.unlink(missing_ok=True)
    if not _asks(cargo, until, "generate-lockfile"):
        raise Pure("the crates' registry doesn't answer, and they aren't all here")
    wanted = dict(_listed())
    for name, version in _locked():
        if wanted.get(name, version) != version:
            _asks(cargo, until, "update", f"{name}@{version}", "--precise", wanted[name])
    if _locked() != _listed():
        LOCK.unlink(missing_ok=True)
        raise SystemExit(
            "error: crates.txt doesn't fit the crates under mrq/native: run python infra/native/crates.py "
            "--list, and commit it"
        )
    if not _asks(cargo, until, "fetch", "--locked"):
        raise Pure("the crates' registry doesn't answer, and they aren't all here")


def write_list() -> None:
    """crates.txt as the Cargo.tomls resolve now. Raises Pure."""
    LOCK.unlink(missing_ok=True)
    if not _asks(_cargo(), time.monotonic() + FETCH_S, "generate-lockfile"):
        raise Pure("the crates' registry doesn't answer")
    LIST.write_text(_HEAD + "".join(f"{name}=={version}\n" for name, version in _locked()))


def _cargo() -> str:
    found = shutil.which("cargo")
    if found is None:
        raise Pure("there is no cargo here")
    return found


def _asks(cargo: str, until: float, *arguments: str) -> bool:
    """Run cargo with these, until then. Whether it did what it was asked; what it said is shown if not."""
    environment = {**os.environ, "CARGO_NET_RETRY": "0", "CARGO_HTTP_TIMEOUT": str(FETCH_S)}
    try:
        ran = subprocess.run(
            [cargo, *arguments],
            cwd=CRATES,
            env=environment,
            capture_output=True,
            text=True,
            timeout=max(0.1, until - time.monotonic()),
        )
    except subprocess.TimeoutExpired:
        return False
    if ran.returncode != 0 and "--offline" not in arguments:
        sys.stderr.write(ran.stderr)
    return ran.returncode == 0


def _locked() -> list[tuple[str, str]]:
    """What the lock file holds, without the crates that lie here."""
    packages = LOCK.read_text().split("[[package]]")[1:] if LOCK.exists() else []
    found = []
    for package in packages:
        name, version = re.findall(r'^(?:name|version) = "(.*)"$', package, re.MULTILINE)
        if "\nsource = " in package:
            found.append((name, version))
    return sorted(found)


def _listed() -> list[tuple[str, str]]:
    lines = LIST.read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return sorted((name, version) for name, version in pairs)


def main() -> None:
    """The command line."""
    try:
        {"--list": write_list, "--test": test}.get(sys.argv[-1], build)()
    except Pure as why:
        EXTENSION.unlink(missing_ok=True)  # of other sources, maybe
        print(f"mrq runs in pure Python: the native data path isn't built, since {why}")


if __name__ == "__main__":
    main()

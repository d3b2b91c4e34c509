"""`make demo`: count the words of Python's standard library, and show the most frequent ones.

Runs the same command that a user types, so what you see is the real thing:

    mrq submit workers/jobs/wordcount.py 'LIB/*.py' 'LIB/json/**/*.py' … -o demo-out --overwrite
"""

from __future__ import annotations

import heapq
import os
import sys
import sysconfig

OUT = "demo-out"
TOP = 15


def inputs() -> list[str]:
    """Globs of the library's own source files: all packages but site-packages.

    Names with a leading underscore are skipped unless a pattern spells it, so those get one of their own.
    """
    library = sysconfig.get_path("stdlib")
    folders = sorted(
        entry.path
        for entry in os.scandir(library)
        if entry.is_dir() and entry.name not in ("site-packages", "dist-packages", "__pycache__")
    )
    globs = []
    for folder, below in ((library, "*"), *((folder, "**/*") for folder in folders)):
        names = source_names(folder, deep=below != "*")
        if any(not name.startswith("_") for name in names):
            globs.append(f"{folder}/{below}.py")
        if any(name.startswith("_") for name in names):
            globs.append(f"{folder}/{below[:-1]}_*.py")
    return globs


def source_names(folder: str, *, deep: bool) -> set[str]:
    """Names of the .py files in the folder, and below it: a glob without matches would be refused."""
    found = set()
    for _, folders, names in os.walk(folder):
        found |= {name for name in names if name.endswith(".py")}
        if not deep:
            folders.clear()
    return found


def main() -> int:
    here = os.path.dirname(os.path.abspath(__file__))
    from mrq.cli import main as mrq

    code = mrq(["submit", os.path.join(here, "wordcount.py"), *inputs(), "-o", OUT, "--overwrite"])
    if code:
        return code
    counts = []
    for name in sorted(os.listdir(OUT)):
        if name.startswith("part-"):
            with open(os.path.join(OUT, name), encoding="utf-8", errors="surrogateescape") as part:
                counts += [(int(line.rpartition("\t")[2]), line.rpartition("\t")[0]) for line in part]
    print(f"\nThe {TOP} most frequent words of {sysconfig.get_path('stdlib')}:\n")
    for count, word in heapq.nlargest(TOP, counts):
        print(f"  {count:>9,}  {word}")
    print(f"\n{len(counts):,} different words; the result lies in {os.path.abspath(OUT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

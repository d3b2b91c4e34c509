"""The shortest Python program for the job, on one core: what a user would write first.

python benchmarks/peers/plain.py wordcount INPUT OUT
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter


def main(argv: list[str]) -> int:
    workload, source, out = argv[:3]
    os.makedirs(out, exist_ok=True)
    with open(source, encoding="utf-8") as lines, open(f"{out}/part-00000", "w", encoding="utf-8") as part:
        if workload == "wordcount":
            counts: Counter[str] = Counter()
            for line in lines:
                counts.update(line.split())
            part.writelines(f"{word}\t{n}\n" for word, n in counts.items())
        else:
            search = re.compile(argv[3]).search
            part.writelines(line for line in lines if search(line))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

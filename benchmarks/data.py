"""Makes the benchmarks' data, from a seed: the same bytes on every machine.

python benchmarks/data.py words 256 /tmp/words.txt      # MiB of text: a Zipf head and a unique tail
python benchmarks/data.py records 5000000 /tmp/records  # 100-byte records, 10-byte keys
"""

from __future__ import annotations

import os
import random
import string
import sys
from itertools import accumulate

HEAD_WORDS = 50_000
HEAD_SHARE = 0.8  #: of the words come from the head; the rest are seen once each
WORDS_A_LINE = 10
SEED = 20_041_206


def make_words(path: str, mib: int) -> None:
    """Text of at least `mib` MiB: 80% of the words from a Zipf head of 50,000, the rest unique."""
    rng = random.Random(SEED)
    letters = string.ascii_lowercase
    head = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(HEAD_WORDS)]
    weights = list(accumulate(1.0 / (rank + 2) for rank in range(HEAD_WORDS)))
    serial = 0
    written = 0
    with open(path + ".new", "w", encoding="ascii") as file:
        while written < mib << 20:
            words = rng.choices(head, cum_weights=weights, k=100_000)
            for at in rng.sample(range(len(words)), int(len(words) * (1 - HEAD_SHARE))):
                serial += 1
                words[at] = f"{letters[serial % 26]}{serial * 2654435761 % (1 << 40):x}"
            lines = [" ".join(words[i : i + WORDS_A_LINE]) for i in range(0, len(words), WORDS_A_LINE)]
            text = "\n".join(lines) + "\n"
            written += file.write(text)
    os.replace(path + ".new", path)


def make_records(path: str, count: int) -> None:
    """Records of 100 bytes: 10 random printable bytes, a space, padding with the number, a newline."""
    rng = random.Random(SEED)
    alphabet = bytes(range(33, 127)) + bytes(range(33, 127)) + bytes(range(33, 101))
    table = alphabet[:256]
    with open(path + ".new", "wb") as file:
        for start in range(0, count, 100_000):
            n = min(100_000, count - start)
            keys = rng.randbytes(10 * n).translate(table)
            file.write(b"".join(b"%b %088d\n" % (keys[10 * i : 10 * i + 10], start + i) for i in range(n)))
    os.replace(path + ".new", path)


def main(argv: list[str]) -> int:
    if len(argv) != 3 or argv[0] not in ("words", "records"):
        print(__doc__)
        return 2
    kind, amount, path = argv
    (make_words if kind == "words" else make_records)(path, int(amount))
    print(f"{path}: {os.path.getsize(path):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

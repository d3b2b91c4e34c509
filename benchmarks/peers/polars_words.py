"""Polars' word count: a columnar engine in Rust, for scale.

python benchmarks/peers/polars_words.py INPUT OUT CORES
"""

from __future__ import annotations

import os
import sys


def main(argv: list[str]) -> int:
    source, out, cores = argv
    os.environ["POLARS_MAX_THREADS"] = cores
    import polars as pl

    os.makedirs(out, exist_ok=True)
    lines = pl.scan_csv(source, has_header=False, separator="\x01", quote_char=None, new_columns=["line"])
    words = lines.select(pl.col("line").str.split(" ").alias("word")).explode("word")
    counts = words.group_by("word").len().collect()
    counts.write_csv(os.path.join(out, "part-00000"), separator="\t", include_header=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

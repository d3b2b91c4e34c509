"""PySpark's side of the benchmarks, in local mode: one workload a process, as mrq's is.

python benchmarks/peers/spark.py wordcount INPUT OUT CORES
"""

from __future__ import annotations

import re
import shutil
import sys


def main(argv: list[str]) -> int:
    workload, source, out, cores = argv[:4]
    from pyspark import SparkConf, SparkContext

    conf = (
        SparkConf()
        .setMaster(f"local[{cores}]")
        .setAppName(workload)
        .set("spark.ui.enabled", "false")
        .set("spark.driver.memory", "6g")
        .set("spark.driver.bindAddress", "127.0.0.1")
        .set("spark.driver.host", "127.0.0.1")
        .set("spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version", "1")
    )
    sc = SparkContext(conf=conf)
    sc.setLogLevel("ERROR")
    shutil.rmtree(out, ignore_errors=True)
    lines = sc.textFile("file://" + source)
    if workload == "wordcount":
        counts = lines.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b)
        counts.map(lambda kv: f"{kv[0]}\t{kv[1]}").saveAsTextFile("file://" + out)
    elif workload == "sort":
        pairs = lines.map(lambda line: (line[:10], line[10:]))
        pairs.sortByKey(numPartitions=16).map(lambda kv: kv[0] + kv[1]).saveAsTextFile("file://" + out)
    elif workload == "grep":
        pattern = re.compile(argv[4])
        lines.filter(lambda line: pattern.search(line) is not None).saveAsTextFile("file://" + out)
    elif workload == "tiny":
        counts = lines.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b)
        counts.map(lambda kv: f"{kv[0]}\t{kv[1]}").saveAsTextFile("file://" + out)
    else:
        raise SystemExit(f"no workload {workload}")
    sc.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a job's `stages` may give, and what submit refuses of it, by sentence and line."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq import planning
from mrq.core.model import FOLLOWS, Purpose, StageSpec
from mrq.errors import JobDefinitionError, MrqError, UsageError
from mrq.io.plan import Draft
from mrq.job.base import called, title
from mrq.job.check import check
from mrq.job.stages import classes_of, said_of, stage_class
from mrq.planning import Request

METHODS = """
n: int = 2

def setup(self):
    pass

def words(self, key, line):
    yield line, 1

def swap(self, key, count):
    yield count, key

def add(self, key, values):
    yield sum(values)

def shard(self, key, n):
    return 0

def batches(self, records):
    yield from records

def blocks(self, block):
    yield block, 1
"""


def drafted(folder: Path, stages: str, keywords: str = "", above: str = "", **overrides: Any) -> Draft:
    """Write a job file whose class has METHODS and returns these `stages`, and draft it."""
    body = METHODS + f"\ndef stages(self):\n    return {stages}\n"
    text = f"import functools\nimport mrq\n\n{above}\n\nclass Chain(mrq.Job{keywords and ', '}{keywords}):\n"
    file = folder / "chainjob.py"
    file.write_text(text + textwrap.indent(body, "    "))
    (folder / "in.txt").write_text("a\n")
    return planning.draft(Request(ref=str(file), inputs=[str(folder / "in.txt")], overrides=overrides))


def refused(folder: Path, stages: str, keywords: str = "", above: str = "", **overrides: Any) -> str:
    with pytest.raises(MrqError) as caught:
        drafted(folder, stages, keywords, above, **overrides)
    return str(caught.value)


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "chainjob.py").read_text().splitlines()
    return next(at for at, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ("[]", "Chain.stages returned an empty list; it must have a stage"),
        ("None", "Chain.stages returned None; it must return a list: `return [mrq.Stage(map=self.NAME), …]`"),
        ("mrq.Stage(map=self.words)", "(a Stage); it must return a list"),
        ("{'a': 1}", "(a dict); it must return a list"),
        ("(mrq.Stage(map=self.words) for _ in 'ab')", "(a generator); it must return a list"),
        ("[mrq.Stage(map=self.words), self.swap]", "its stage 2 is"),
        ("[mrq.Stage]", "its stage 1 is the class Stage; each must be an mrq.Stage"),
        ("[mrq.Stage(reduce=mrq.sum)]", "stage 1 of Chain has no map; name a method in it"),
        ("[mrq.Stage()]", "stage 1 of Chain has no map"),
        ("[mrq.Stage(map=self.words, map_split=self.batches)]", "has map and map_split; keep one of them"),
        ("[mrq.Stage(self.words, mrq.sum)]", "a Stage takes its methods by name"),
        ("[mrq.Stage(map=lambda key, line: [])]", "map is a lambda, which has no name; make it a method of"),
        ("[mrq.Stage(map='words')]", "map='words' is a text; write map=self.words"),
        ("[mrq.Stage(map=Chain.words)]", "map=Chain.words is the class's function; write map=self.words"),
        ("[mrq.Stage(map=Chain().words)]", "map is the method words of another Chain; write map=self.words"),
        (
            "[mrq.Stage(map=OTHER.words)]",
            "map is the method words of another object (Other), which",
        ),
        ("[mrq.Stage(map=elsewhere)]", "map is the function elsewhere, and no method of Chain; call it in"),
        (
            "[mrq.Stage(map=self.words(0, 'a'))]",
            "map is what words gave; leave out the parentheses",
        ),
        ("[mrq.Stage(map=functools.partial(self.words))]", "(a partial); a stage takes methods of self by"),
        ("[mrq.Stage(map=Other)]", "map is the class Other; a stage takes methods of self"),
        ("[mrq.Stage(map=3)]", "map is 3 (a int); a stage takes methods of self by name, map=self.NAME"),
        ("[mrq.Stage(map=len)]", "map=len is Python's own len"),
        ("[mrq.Stage(map=mrq.sum)]", "map=mrq.sum is a built-in reducer; map must be a method"),
        ("[mrq.Stage(map=self.setup)]", "map=self.setup: setup is the engine's"),
        ("[mrq.Stage(map=self.words, reduce=sum)]", "reduce=sum is Python's own sum; write reduce=mrq.sum"),
        ("[mrq.Stage(map=self.words, reduce=mrq.top)]", "reduce=mrq.top must be called, such as reduce=mrq"),
        ("[mrq.Stage(map=self.words, combine=self.add)]", "has combine and no reduce, so nothing would call"),
        (
            "[mrq.Stage(map=self.words, sort_values=True)]",
            "has sort_values and no reduce: without",
        ),
        (
            "[mrq.Stage(map=self.words, reduce=mrq.sum, combine=self.add)]",
            "stage 1 of Chain has a combine beside a built-in reduce",
        ),
        (
            "[mrq.Stage(map=self.words, reduce=self.add, partition=self.shard, order='total')]",
            'has partition and order="total"',
        ),
        ("[mrq.Stage(map=self.batches)]", "Chain.batches(self, records) must take 2 parameters after self"),
        ("[mrq.Stage(mapper=self.words)]", "stage 1 of Chain has no 'mapper'; did you mean 'map'?"),
        (
            "[mrq.Stage(map=self.words, memory='64M')]",
            "has memory, which is the whole job's: write it",
        ),
        ("[mrq.Stage(map=self.words, setup=self.add)]", "has setup, which is the whole job's: define it in"),
        ("[mrq.Stage(map=self.words, reducers=0)]", "reducers must be"),
        ("[mrq.Stage(map=self.words, order='sorted')]", "order must be"),
        ("[mrq.Stage(map=self.words, reduce=mrq.top('k'))]", "stage 1 of Chain has no parameter 'k'"),
        (
            "[mrq.Stage(map=self.words), mrq.Stage(map=self.swap, input_format='jsonl')]",
            "stage 2 of Chain has input_format, and reads what stage 1 writes, as it is; leave it out",
        ),
        (
            "[mrq.Stage(map=self.words), mrq.Stage(map=self.swap, encoding='latin-1')]",
            "stage 2 of Chain has encoding, and reads what stage 1 writes",
        ),
        (
            "[mrq.Stage(map=self.words, output_format='jsonl'), mrq.Stage(map=self.swap)]",
            "stage 1 of Chain has output_format, and what it writes is for stage 2 alone; leave it out",
        ),
        (
            "[mrq.Stage(map=self.words, compression='gz'), mrq.Stage(map=self.swap)]",
            "stage 1 of Chain has compression, and what it writes is for stage 2 alone",
        ),
        (
            "[mrq.Stage(map=self.words), mrq.Stage(map_block=self.blocks)]",
            "stage 2 of Chain has map_block, which takes lines of files, and reads what stage 1 writes; name",
        ),
        ("[mrq.Stage(map=self.words)][self.n]", "raised IndexError: list index out of range: `return"),
        ("[mrq.Stage(map=self.nothing)]", "raised AttributeError: 'Chain' object has no attribute 'nothing'"),
        ("__import__('sys').exit(3)", "raised SystemExit: 3"),
        ("[mrq.Stage(map=self.words, reduce=mrq.top(0))]", "raised mrq.top(0) keeps nothing; n must be at"),
    ],
)
def test_refused(tmp_path: Path, stages: str, said: str) -> None:
    above = (
        "class Other:\n    def words(self, key, line):\n        yield line, 1\n\n\nOTHER = Other()\n\n\n"
        "def elsewhere(key, line):\n    yield line, 1\n"
    )
    text = refused(tmp_path, stages, above=above)
    assert said in text
    assert text.count("\n") == 0
    assert "chainjob.py:" in text or "must be" in text


def test_the_line_is_that_of_the_stage(tmp_path: Path) -> None:
    stages = "[\n        mrq.Stage(map=self.words),\n        mrq.Stage(map=3),\n    ]"
    text = refused(tmp_path, stages)
    assert f"chainjob.py:{line_of(tmp_path, 'map=3')}: stage 2 of Chain: map is 3" in text


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ("def stages(self): yield mrq.Stage(map=self.m)", "Chain.stages yields, and must return a list"),
        ("async def stages(self): return []", "Chain.stages is async, which mrq doesn't await"),
        ("def stages(self, n): return []", "Chain.stages must take self alone (parameters are self.NAME)"),
        ("def stages(): return []", "Chain.stages must take self alone"),
        ("stages = [mrq.Stage()]", "Chain.stages must be a method: `def stages(self):`"),
        ("@staticmethod\n    def stages(): return []", "Chain.stages must be a method"),
        (
            "def stages(self): return [mrq.Stage(map=self.m)]\n    def map(self, key, line): yield 1, 2",
            "Chain defines stages and map, so it isn't clear what runs; call that method otherwise and",
        ),
        (
            "def stages(self): return [mrq.Stage(map=self.m)]\n    reduce = mrq.sum",
            "Chain defines stages and reduce",
        ),
        (
            "turn = 0\n    def stages(self):\n        Chain.turn += 1\n"
            "        return [mrq.Stage(map=self.m, reducers=Chain.turn, reduce=mrq.sum)]",
            "gave (map=m, reduce=mrq.sum, reducers=1), and when it was called again, with the same "
            "parameters, (map=m, reduce=mrq.sum, reducers=2)",
        ),
        (
            "turn = 0\n    def stages(self):\n        Chain.turn += 1\n"
            "        return [mrq.Stage(map=self.m)] * Chain.turn",
            "gave (map=m), and when it was called again, with the same parameters, (map=m), (map=m)",
        ),
    ],
)
def test_what_stages_cannot_be(tmp_path: Path, definition: str, said: str) -> None:
    file = tmp_path / "chainjob.py"
    file.write_text(
        f"import mrq\n\nclass Chain(mrq.Job):\n    def m(self, key, line): yield 1, 2\n    {definition}\n"
    )
    with pytest.raises(JobDefinitionError, match=r"chainjob\.py:") as caught:
        planning.draft(Request(ref=str(file), inputs=["x"]))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("keywords", "overrides", "said"),
    [
        (
            "sort_values=True",
            {},
            "sort_values=True doesn't say of which; leave it out of the class",
        ),
        ("order='total'", {}, 'order="total" doesn\'t say of which'),
        ("total_order=True", {}, 'order="total" doesn\'t say of which'),
        (
            "",
            {"sort_values": True},
            "leave out `sort_values=True`, and give it to a stage: `mrq",
        ),
        ("", {"order": "total"}, 'leave out `order="total"`'),
    ],
)
def test_settings_of_one_stage_are_refused_of_the_job(
    tmp_path: Path, keywords: str, overrides: dict[str, Any], said: str
) -> None:
    assert said in refused(tmp_path, "[mrq.Stage(map=self.words)]", keywords, **overrides)


def test_reducers_of_a_job_without_a_reduce_are_refused(tmp_path: Path) -> None:
    stages = "[mrq.Stage(map=self.words), mrq.Stage(map=self.swap)]"
    assert "Chain has no reduce" in refused(tmp_path, stages, reducers=3)
    assert "Chain has no reduce" in refused(tmp_path, stages, "reducers=3")


def test_bad_records_cannot_be_left_out_of_a_map_split_in_any_stage(tmp_path: Path) -> None:
    stages = "[mrq.Stage(map=self.words), mrq.Stage(map_split=self.batches)]"
    assert "stage 2 of Chain has map_split" in refused(tmp_path, stages, skip_bad_records=1)
    spec = drafted(tmp_path, stages).spec
    assert [stage.can_skip for stage in spec.stages] == [True, False]
    assert not spec.can_skip


def summed(stage: StageSpec) -> tuple[Any, ...]:
    return (stage.number, stage.purpose is Purpose.WORK, stage.place, stage.reducers, stage.said)


def test_stages_are_drafted_with_their_samplings(tmp_path: Path) -> None:
    stages = (
        "[mrq.Stage(map=self.words, reduce=mrq.sum, order='total', reducers=3),"
        " mrq.Stage(map=self.swap),"
        " mrq.Stage(map_split=self.batches, reduce=mrq.top(self.n), total_order=True),"
        " mrq.Stage(map=self.swap, combine=self.add, reduce=self.add, reducers=1, order='total')]"
    )
    spec = drafted(tmp_path, stages, "input_format='jsonl', compression='gz'").spec
    assert list(map(summed, spec.stages)) == [
        (5, False, 0, 0, "map=words, reduce=mrq.sum"),
        (1, True, 0, 3, "map=words, reduce=mrq.sum"),
        (2, True, 1, 0, "map=swap"),
        (6, False, 2, 0, "map_split=batches, reduce=mrq.top(2)"),
        (3, True, 2, FOLLOWS, "map_split=batches, reduce=mrq.top(2)"),
        (4, True, 3, 1, "map=swap, combine=add, reduce=add"),
    ]
    assert [stage.plan is None for stage in spec.stages] == [False, True, True, True, True, True]
    assert [stage.input_format for stage in spec.stages] == ["jsonl", "jsonl", *["records"] * 4]
    assert [stage.output_format for stage in spec.stages] == ["records"] * 5 + ["text"]
    assert [stage.compression for stage in spec.stages] == [None] * 5 + ["gz"]


def test_a_stages_own_settings_count_before_those_of_the_job(tmp_path: Path) -> None:
    stages = (
        "[mrq.Stage(map=self.words, reduce=mrq.sum), mrq.Stage(map=self.swap, split_size='1M'),"
        " mrq.Stage(map=self.swap, reduce=mrq.sum, reducers=1, output_format='jsonl', sort_values=True)]"
    )
    first, second, third = drafted(tmp_path, stages, "split_size='3M'", reducers=7).spec.stages
    assert [stage.reducers for stage in (first, second, third)] == [7, 0, 1]
    assert [stage.split_bytes for stage in (first, second, third)] == [3 << 20, 1 << 20, 3 << 20]
    assert [stage.sort_values for stage in (first, second, third)] == [False, False, True]
    assert third.output_format == "jsonl"
    (last,) = drafted(tmp_path, stages, output_format="records").spec.stages[2:]
    assert last.output_format == "records", "what a run says of the job's output"


def test_one_stage_is_a_job_as_any_other(tmp_path: Path) -> None:
    (stage,) = drafted(tmp_path, "[mrq.Stage(map=self.words, reduce=mrq.sum)]").spec.stages
    assert (stage.number, stage.plan is not None, stage.reducers) == (0, True, FOLLOWS)


class Chain(mrq.Job):
    n: int = 2

    def stages(self) -> list[mrq.Stage]:
        return [
            mrq.Stage(map=self.words, reduce=mrq.top(self.n, key=self.size)),
            mrq.Stage(map=self.swap, partition=self.shard, reduce=self.add),
        ]

    def words(self, key: int, line: str) -> Any:
        yield line, self.n

    @classmethod
    def swap(cls, key: Any, value: Any) -> Any:
        yield value, key

    @staticmethod
    def size(value: Any) -> int:
        return len(value)

    @staticmethod
    def shard(key: Any, n: int) -> int:
        return 0

    def add(self, key: Any, values: Any) -> Any:
        yield sum(values)


class Longer(Chain):
    def words(self, key: int, line: str) -> Any:
        yield line * 2, self.n

    def stages(self) -> list[mrq.Stage]:
        return [*super().stages(), mrq.Stage(map=self.swap)]


def test_a_stages_class_is_the_jobs_with_its_methods() -> None:
    first, second = classes_of(Chain(n=3))
    assert [title(first), title(second)] == ["stage 1 of Chain", "stage 2 of Chain"]
    assert (called(first, "map"), called(second, "map"), called(second, "setup")) == (
        "words",
        "swap",
        "setup",
    )
    assert said_of(second) == "map=swap, reduce=add, partition=shard"
    job = second(n=5)
    assert isinstance(job, Chain)
    assert (type(job).__name__, type(job).__module__, job.n) == ("Chain", __name__, 5)
    assert list(job.map(1, 2)) == [(2, 1)]  # type: ignore[attr-defined]
    assert job.partition("a", 4) == 0  # type: ignore[attr-defined]
    assert list(first(n=7).map(0, "a")) == [("a", 7)]  # type: ignore[attr-defined]
    assert getattr(first, "partition", None) is None


def test_inherited_methods_and_stages_are_the_nearest() -> None:
    classes = classes_of(Longer())
    assert len(classes) == 3
    assert list(classes[0]().map(0, "ab")) == [("abab", 2)]  # type: ignore[attr-defined]
    assert check(Longer).sort_values is False


def test_an_executor_that_finds_other_stages_says_so() -> None:
    spec = StageSpec(splits=(), reducers=0, place=1, said="map=swap, reduce=add, partition=shard")
    assert called(stage_class(Chain(), spec), "map") == "swap"
    for other in (StageSpec(splits=(), reducers=0, place=2), StageSpec(splits=(), reducers=0, place=0)):
        with pytest.raises(JobDefinitionError, match=r"at submit stage . was"):
            stage_class(Chain(), other)


def test_a_parameters_default_in_a_method_of_a_stage_is_found(tmp_path: Path) -> None:
    file = tmp_path / "chainjob.py"
    file.write_text(
        "import mrq\n\nclass Chain(mrq.Job):\n    n: int = 2\n\n    def words(self, key, line, n=n):\n"
        "        yield line, n\n\n    def stages(self):\n        return [mrq.Stage(map=self.words)]\n"
    )
    with pytest.raises(UsageError, match=r"chainjob\.py:6: words takes the default of the parameter n as a"):
        planning.draft(Request(ref=str(file), inputs=["x"]))

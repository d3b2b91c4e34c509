"""`mrq.Stage`: what a job's `stages` gives, and the class that each of them runs as.

A stage's class derives from the user's own, under the same name, and has the stage's methods as its map,
combine, reduce and partition, and its settings. So whatever looks at a job's class works as it does for a job
of one stage; `base.called` says what the user calls a method. `stages` is called at submit, and again in
each executor, which has the same code and parameters.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict, TypeVar, cast

from mrq.codec.types import shown
from mrq.errors import JobDefinitionError, MrqError
from mrq.job import source
from mrq.job.base import HOOKS, MAPS, Job, has_stages

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from mrq.core.model import StageSpec

#: What a stage names methods for.
STAGE_HOOKS: Final = (*MAPS, "combine", "reduce", "partition")
#: Settings that any stage may have, beside those that follow.
OF_ANY: Final = ("reducers", "sort_values", "order", "total_order", "split_size")
#: What the first stage reads.
OF_FIRST: Final = ("input_format", "encoding")
#: What the last stage writes.
OF_LAST: Final = ("output_format", "compression")
#: What stages write for the next one, and read: typed, lossless.
BETWEEN: Final = "records"

J = TypeVar("J", bound=Job)


class StageKeywords(TypedDict, total=False):
    """The settings of a stage, for type checkers."""

    reducers: int | None
    sort_values: bool
    order: Literal["total", "hashed"] | None
    total_order: bool
    split_size: int | str | None
    input_format: str | None
    encoding: str | None
    output_format: str | None
    compression: Literal["gz", "bz2", "xz", "zst", "none"] | None


class Stage:
    """One stage of a job: `mrq.Stage(map=self.words, reduce=mrq.sum, reducers=4)`.

    Its methods are methods of the job, given by name, and its reduce may be a built-in. Everything else is
    said by settings: `reducers`, `sort_values`, `order`, `split_size`; of the first stage also what it
    reads, of the last what it writes.
    """

    __slots__ = ("given", "hooks", "settings", "where")

    def __init__(
        self,
        *given: Any,
        map: Callable[..., Any] | None = None,
        map_split: Callable[..., Any] | None = None,
        map_block: Callable[..., Any] | None = None,
        combine: Callable[..., Any] | None = None,
        reduce: Callable[..., Any] | None = None,
        partition: Callable[..., Any] | None = None,
        **settings: Unpack[StageKeywords],
    ) -> None:
        found = (map, map_split, map_block, combine, reduce, partition)
        self.given = given
        self.hooks = {
            hook: value for hook, value in zip(STAGE_HOOKS, found, strict=True) if value is not None
        }
        self.settings: dict[str, Any] = dict(settings)
        frame = inspect.currentframe()
        caller = frame.f_back if frame is not None else None
        #: Where it is made, for messages.
        self.where = (caller.f_code.co_filename, caller.f_lineno) if caller is not None else ("", 0)

    def __repr__(self) -> str:
        said = {**self.hooks, **self.settings}
        return f"mrq.Stage({', '.join(f'{name}={value!r}' for name, value in said.items())})"


class StageOf(NamedTuple):
    """Which of a job's stages a class is."""

    place: int  #: counted from 0
    many: int  #: stages that there are
    names: Mapping[str, str]  #: hooks by what the user calls them
    where: str  #: `file:line: ` of the Stage
    said: str  #: "map=words, reduce=mrq.sum"
    settings: Mapping[str, Any]  #: that the Stage has itself


def classes_of(job: J) -> tuple[type[J], ...]:
    """What each stage of a job runs as, in order; of one without `stages` its class alone. Raises
    JobDefinitionError."""
    cls = type(job)
    if not has_stages(cls):
        return (cls,)
    stages = _called(job)
    return tuple(_class_of(job, stage, place, len(stages)) for place, stage in enumerate(stages))


def settled(make: Callable[[], J]) -> tuple[type[J], ...]:
    """The same, of a job that is made twice: stages must be the same again, since every executor asks
    anew. Raises JobDefinitionError."""
    found = classes_of(job := make())
    if not has_stages(type(job)):
        return found
    again = [_said(each) for each in classes_of(make())]
    before = [_said(each) for each in found]
    if again != before:
        raise _wrong(
            type(job),
            f" gave {_listed(before)}, and when it was called again, with the same parameters, "
            f"{_listed(again)}; each executor asks anew, so it may depend on parameters (self.n) alone",
        )
    return found


def stage_class(job: J, stage: StageSpec) -> type[J]:
    """What a job runs as in one of its stages. Raises JobDefinitionError where it has other stages than at
    submit."""
    found = classes_of(job)
    if stage.place >= len(found) or said_of(found[stage.place]) != stage.said:
        gave = _listed([said_of(each) for each in found])
        raise _wrong(
            type(job),
            f" gave {gave} here, and at submit stage {stage.place + 1} was ({stage.said}); it may depend on "
            "parameters (self.n) alone",
        )
    return found[stage.place]


def said_of(cls: type[Job]) -> str:
    """A stage's methods as the user has them; "" for a job without stages."""
    return cls.__mrq_stage__.said if cls.__mrq_stage__ is not None else ""


def _wrong(cls: type[Job], said: str) -> JobDefinitionError:
    """What is said of a job's `stages`, where that stands."""
    return JobDefinitionError(f"{_at(cls)}{cls.__name__}.stages{said}")


def _at(cls: type[Job]) -> str:
    return source.at(inspect.getattr_static(cls, "stages", None)) or source.at_class(cls)


def _said(cls: type[Job]) -> str:
    of = cls.__mrq_stage__
    assert of is not None
    return ", ".join([of.said, *(f"{name}={value!r}" for name, value in of.settings.items())])


def _listed(stages: list[str]) -> str:
    return ", ".join(f"({stage})" for stage in stages)


# ---- the list ----


def _called(job: Job) -> list[Stage]:
    """What `stages` gives. Raises JobDefinitionError."""
    cls = type(job)
    check_method(cls)
    try:
        found = job.stages()  # type: ignore[attr-defined]
    except (Exception, SystemExit) as exc:
        raise _raised(exc, cls) from exc
    if not isinstance(found, list | tuple):
        what = "None" if found is None else f"{shown(found)} (a {type(found).__name__})"
        raise _wrong(cls, f" returned {what}; it must return a list: `return [mrq.Stage(map=self.NAME), …]`")
    if not found:
        raise _wrong(
            cls,
            " returned an empty list; it must have a stage: "
            "`return [mrq.Stage(map=self.NAME, reduce=mrq.sum)]`",
        )
    for place, stage in enumerate(found):
        if not isinstance(stage, Stage):
            raise _wrong(
                cls,
                f": its stage {place + 1} is {_described(stage)}; each must be an mrq.Stage: "
                "`mrq.Stage(map=self.NAME, reduce=self.OTHER)`",
            )
    return list(found)


def check_method(cls: type[Job]) -> None:
    """Raise JobDefinitionError where `stages` can't be called for a list."""
    line = "`def stages(self):`"
    static = inspect.getattr_static(cls, "stages")
    for hook in STAGE_HOOKS:
        if getattr(cls, hook, None) is not None:
            raise JobDefinitionError(
                f"{_at(cls)}{cls.__name__} defines stages and {hook}, so it isn't clear what runs; call that "
                f"method otherwise and name it in a stage: `mrq.Stage({hook}=self.NAME, …)`"
            )
    function = source.function_of(static)
    if function is None or isinstance(static, staticmethod | classmethod):
        raise _wrong(cls, f" must be a method: {line}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise _wrong(cls, f" is async, which mrq doesn't await: write {line}")
    if inspect.isgeneratorfunction(function):
        raise _wrong(cls, " yields, and must return a list: `return [mrq.Stage(…), …]`")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise _wrong(cls, f" must take self alone (parameters are self.NAME): {line}") from None


def _raised(exc: BaseException, cls: type[Job]) -> JobDefinitionError:
    """What is said of an exception in `stages`."""
    frame = source.user_frame(exc.__traceback__)
    where = f"{source.place(*frame)}: " if frame is not None else _at(cls)
    text = f": `{source.line_text(*frame)}`" if frame is not None else ""
    said = str(exc) if isinstance(exc, MrqError) else f"{type(exc).__name__}: {exc}"
    return JobDefinitionError(
        f"{where}{cls.__name__}.stages raised {said}{text}; it is called at submit, and may use parameters "
        "(self.n), and neither data nor what setup makes"
    )


# ---- one stage ----


def _class_of(job: J, stage: Stage, place: int, count: int) -> type[J]:
    """What a stage runs as. Raises JobDefinitionError."""
    cls = type(job)
    where = f"{source.place(*stage.where)}: " if stage.where[0] else _at(cls)
    title = f"stage {place + 1} of {cls.__name__}"
    if stage.given:
        raise JobDefinitionError(
            f"{where}{title}: a Stage takes its methods by name: `mrq.Stage(map=self.NAME, reduce=mrq.sum)`"
        )
    if place and "map_block" in stage.hooks:
        raise JobDefinitionError(
            f"{where}{title} has map_block, which takes lines of files, and reads what stage {place} writes; "
            "name a method for map or map_split"
        )
    _check_settings(stage, where, title, place, count)
    names, body, said = dict[str, str](), dict[str, Any](), list[str]()
    for hook, value in stage.hooks.items():
        name, static = _hook(job, hook, value, f"{where}{title}: ")
        body[hook] = static
        said.append(f"{hook}={name or repr(static)}")
        if name:
            names[hook] = name
    body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    of = StageOf(place, count, names, where, ", ".join(said), stage.settings)
    made: type[J] = cast(Any, type(cls))(cls.__name__, (cls,), body)
    made.__mrq_stage__ = of
    made.__mrq_settings__ = _settings_of(cls, of, reduces="reduce" in stage.hooks)
    return made


def _settings_of(cls: type[Job], of: StageOf, *, reduces: bool) -> dict[str, Any]:
    """The class's settings under the stage's own; between stages lie records."""
    found = {**cls.__mrq_settings__}
    for name in _not_of(of, reduces=reduces):
        found.pop(name, None)
    if of.place:
        found["input_format"] = BETWEEN
    if of.place < of.many - 1:
        found["output_format"] = BETWEEN
    own = dict(of.settings)
    if "total_order" in own:
        own["order"] = "total" if own.pop("total_order") else None
    return {**found, **own}


def overrides_of(cls: type[Job], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings of a run those that count in a stage, which says for itself how many reducers it has
    and how its input is cut, where it does."""
    of = cls.__mrq_stage__
    if of is None:
        return dict(overrides)
    own = {name for name in ("reducers", "split_size") if name in of.settings}
    left_out = {*own, *_not_of(of, reduces=getattr(cls, "reduce", None) is not None)}
    return {name: value for name, value in overrides.items() if name not in left_out}


def _not_of(of: StageOf, *, reduces: bool) -> Iterator[str]:
    """Settings of the whole job that aren't this stage's."""
    if of.place:
        yield from OF_FIRST
    if of.place < of.many - 1:
        yield from OF_LAST
    if not reduces:
        yield "reducers"


def _check_settings(stage: Stage, where: str, title: str, place: int, count: int) -> None:
    """Raise JobDefinitionError for a setting that means nothing in a stage, or there."""
    from mrq.settings.checks import nearest
    from mrq.settings.job import SETTINGS

    known = (*STAGE_HOOKS, *OF_ANY, *OF_FIRST, *OF_LAST)
    for name in stage.settings:
        if name in OF_FIRST and place:
            said = f"has {name}, and reads what stage {place} writes, as it is; leave it out"
        elif name in OF_LAST and place < count - 1:
            said = f"has {name}, and what it writes is for stage {place + 2} alone; leave it out"
        elif name in known:
            continue
        elif name in SETTINGS:
            said = (
                f"has {name}, which is the whole job's: write it in the class, `class …(mrq.Job, {name}=…)`"
            )
        elif name in HOOKS:
            said = f"has {name}, which is the whole job's: define it in the class"
        else:
            said = f"has no {name!r}{nearest(name, known)}"
        raise JobDefinitionError(f"{where}{title} {said}")


def _hook(job: Job, hook: str, value: Any, where: str) -> tuple[str, Any]:
    """(its name, the class's attribute) of a method of the job; of a built-in ("", that). Raises
    JobDefinitionError for anything else."""
    from mrq.job.builtins import BuiltIn

    if isinstance(value, BuiltIn):
        if hook != "reduce":
            raise JobDefinitionError(
                f"{where}{hook}={value!r} is a built-in reducer; {hook} must be a method"
            )
        return "", value
    for name, static in _methods(type(job)):
        if _is(value, static, job):
            if name in HOOKS:
                break
            return name, static
    raise JobDefinitionError(f"{where}{_refused(job, hook, value)}")


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    """(name, attribute) of all that a class and its bases define, the nearest first."""
    seen = set[str]()
    for base in cls.__mro__:
        for name, static in vars(base).items():
            if name not in seen and base not in (Job, object):
                seen.add(name)
                yield name, static


def _is(value: Any, static: Any, job: Job) -> bool:
    """Is that what `self.name` gives for this attribute?"""
    if isinstance(static, staticmethod):
        return value is static.__func__
    owner = type(job) if isinstance(static, classmethod) else job
    function = static.__func__ if isinstance(static, classmethod) else static
    return getattr(value, "__self__", None) is owner and getattr(value, "__func__", None) is function


def _refused(job: Job, hook: str, value: Any) -> str:
    """What is wrong with what a stage has for a hook, and what to write."""
    cls = type(job).__name__
    name = getattr(value, "__name__", "")
    wanted = f"methods of self by name, {hook}=self.NAME" + (", and built-ins, mrq.sum" * (hook == "reduce"))
    if isinstance(value, str):
        return f"{hook}={value!r} is a text; write {hook}=self.{value if value.isidentifier() else 'NAME'}"
    if inspect.isgenerator(value) or inspect.iscoroutine(value):
        return f"{hook} is what {name} gave; leave out the parentheses: {hook}=self.{name}"
    if getattr(builtins, name, None) is value and name:
        ours = f"; write {hook}=mrq.{name}" if name in ("sum", "min", "max") and hook == "reduce" else ""
        return f"{hook}={name} is Python's own {name}{ours or f'; a stage takes {wanted}'}"
    if getattr(value, "__module__", None) == "mrq.job.builtins" and callable(value):
        return f"{hook}=mrq.{name} must be called, such as {hook}=mrq.{name}(10)"
    if name == "<lambda>":
        return f"{hook} is a lambda, which has no name; make it a method of {cls} and write {hook}=self.NAME"
    owner = getattr(value, "__self__", None)
    if isinstance(owner, Job) and owner is not job:
        return f"{hook} is the method {name} of another {type(owner).__name__}; write {hook}=self.{name}"
    if owner is not None and inspect.ismethod(value) and owner is not job:
        return (
            f"{hook} is the method {name} of another object ({type(owner).__name__}), which executors don't "
            f"have; call it in a method of {cls} and write {hook}=self.NAME"
        )
    if name in HOOKS and owner is job:
        return f"{hook}=self.{name}: {name} is the engine's; a stage takes {wanted}"
    if any(static is value for _, static in _methods(type(job))):
        return f"{hook}={cls}.{name} is the class's function; write {hook}=self.{name}"
    if inspect.isroutine(value) and name:
        return (
            f"{hook} is the function {name}, and no method of {cls}; call it in a method and write "
            f"{hook}=self.NAME"
        )
    return f"{hook} is {_described(value)}; a stage takes {wanted}"


def _described(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"{shown(value)} (a {type(value).__name__})"

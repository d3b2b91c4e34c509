"""`Job`: what users subclass.

Settings are class keywords, parameters are annotated fields, and the user's methods are found by being
defined. `Job` itself therefore defines none of them, and takes no other name from the user's namespace than
`task` and `counters`. Everything a running job needs is here; what only submit needs (conversion of
parameters, checks, loading) is in the sibling modules and imported when used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeGuard, dataclass_transform

from mrq.job.context import Task

if TYPE_CHECKING:
    from typing import Unpack

    from mrq.job.stages import StageOf
    from mrq.settings.job import Keywords

#: Methods that the engine looks for -> the line that each should begin with.
METHODS: Final = {
    "map": "def map(self, key, value):",
    "map_split": "def map_split(self, records):",
    "map_block": "def map_block(self, block):",
    "combine": "def combine(self, key, values):",
    "reduce": "def reduce(self, key, values):",
    "partition": "def partition(self, key, n):",
    "setup": "def setup(self):",
    "teardown": "def teardown(self):",
}
#: Those of which a job has one, to map with.
MAPS: Final = ("map", "map_split", "map_block")

#: Methods and built-ins that the engine looks for.
HOOKS: Final = (*METHODS, "stages")

#: Names that can't be parameters.
RESERVED: Final = frozenset((*HOOKS, "task", "counters"))

#: Stands for "no default": the parameter is required.
REQUIRED: Final = object()

_MUTABLE = (list, dict, set, bytearray)


class Pair:
    """`yield mrq.Pair(key, value)` from reduce writes under another key than the group's.

    It is neither partitioned nor sorted again, and combine may not yield it.
    """

    __slots__ = ("key", "value")
    __match_args__ = ("key", "value")

    def __init__(self, key: Any, value: Any) -> None:
        self.key = key
        self.value = value

    def __eq__(self, other: object) -> bool:
        if type(other) is not Pair:
            return NotImplemented
        return bool(self.key == other.key and self.value == other.value)

    def __hash__(self) -> int:
        return hash((self.key, self.value))

    def __repr__(self) -> str:
        return f"mrq.Pair({self.key!r}, {self.value!r})"


class Parameter:
    """One annotated field of a job class."""

    __slots__ = ("annotation", "default", "name", "owner")

    def __init__(self, name: str, annotation: Any, default: Any, owner: type[Job]) -> None:
        self.name = name
        self.annotation = annotation  #: as written: a string under `from __future__ import annotations`
        self.default = default  #: or REQUIRED
        self.owner = owner  #: the class that annotates it: where a string annotation is evaluated


@dataclass_transform(kw_only_default=True)
class Job:
    """The base of every job.

    Subclasses define `map` (or `map_split`, or `map_block`), and may define `reduce` (a method or a built-in
    such as `mrq.sum`), `combine` and `partition`; or they define `stages`, which says what each of several
    stages maps and reduces with. `setup` and `teardown` are of each attempt. Instances are made with
    keywords only.
    """

    #: The attempt at hand; the engine sets it before `setup`.
    task: Task
    #: Counts by name, of this attempt; only winning attempts' counts are added up.
    counters: Counter[str]

    #: Settings given as class keywords, inherited ones included, as written.
    __mrq_settings__: ClassVar[Mapping[str, Any]] = {}
    #: Parameters by name, inherited ones first.
    __mrq_parameters__: ClassVar[Mapping[str, Parameter]] = {}
    #: Of a class that one of the job's stages runs as (`job.stages`): which one it is.
    __mrq_stage__: ClassVar[StageOf | None] = None

    def __init_subclass__(cls, **settings: Unpack[Keywords]) -> None:
        super().__init_subclass__()
        inherited: dict[str, Any] = {}
        for base in reversed(cls.__mro__[1:]):
            inherited.update(base.__dict__.get("__mrq_settings__", {}))
        if settings:
            from mrq.settings.job import check_keywords

            inherited.update(check_keywords(cls, settings))
        cls.__mrq_settings__ = inherited
        cls.__mrq_parameters__ = _parameters(cls)

    def __init__(self, /, *given: Any, **parameters: Any) -> None:
        if given:
            from mrq.errors import UsageTypeError

            name, names = type(self).__name__, list(type(self).__mrq_parameters__)[: len(given)]
            how = f"write {name}({', '.join(f'{each}=…' for each in names)})" if names else "it has none"
            raise UsageTypeError(f"{name} takes its parameters by name: {how}")
        declared = type(self).__mrq_parameters__
        if not declared.keys() >= parameters.keys() or len(parameters) < len(declared):
            _fill_in(type(self), parameters)
        self.__dict__.update(parameters)
        self.task = Task()
        self.counters = Counter()

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in type(self).__mrq_parameters__)
        return f"{type(self).__name__}({given})"


def is_job(value: object) -> TypeGuard[type[Job]]:
    """Whether it is a class that derives from `Job`."""
    return isinstance(value, type) and issubclass(value, Job) and value is not Job


def defined(cls: type[Job], hook: str) -> bool:
    """Whether the job has this method or built-in; `combine = None` in a subclass takes it away."""
    return getattr(cls, hook, None) is not None


def has_stages(cls: type[Job]) -> bool:
    """Whether the job says in `stages` what it maps and reduces with."""
    return cls.__mrq_stage__ is None and defined(cls, "stages")


def title(cls: type[Job]) -> str:
    """The job as messages name it: `Sessions`, or `stage 2 of Sessions`."""
    of = cls.__mrq_stage__
    return cls.__name__ if of is None else f"stage {of.place + 1} of {cls.__name__}"


def called(cls: type[Job], hook: str) -> str:
    """What the user calls the method that is this hook: in a stage, `words` for its map."""
    of = cls.__mrq_stage__
    return hook if of is None else of.names.get(hook, hook)


def def_of(cls: type[Job], hook: str) -> str:
    """The line that a hook should begin with, as the user calls it."""
    return METHODS[hook].replace(f"def {hook}(", f"def {called(cls, hook)}(")


def parameter_values(job: Job) -> dict[str, Any]:
    """The instance's parameters by name: what makes it again."""
    return {name: getattr(job, name) for name in type(job).__mrq_parameters__}


def _fill_in(cls: type[Job], parameters: dict[str, Any]) -> None:
    """Add defaults, copied where they can change; raise UsageTypeError for unknown and missing names."""
    declared = cls.__mrq_parameters__
    for name in parameters:
        if name not in declared:
            from mrq.errors import UsageTypeError
            from mrq.settings.checks import nearest

            raise UsageTypeError(f"{cls.__name__} has no parameter {name!r}{nearest(name, declared)}")
    missing = [p.name for p in declared.values() if p.default is REQUIRED and p.name not in parameters]
    if missing:
        from mrq.errors import UsageTypeError

        names = " and ".join(f"{name}=…" for name in missing)
        raise UsageTypeError(f"{cls.__name__} needs {names}: no default is given in the class")
    for name, parameter in declared.items():
        if name not in parameters:
            parameters[name] = parameter.default
            if isinstance(parameter.default, _MUTABLE):
                import copy

                parameters[name] = copy.deepcopy(parameter.default)


def _parameters(cls: type[Job]) -> dict[str, Parameter]:
    """Inherited parameters and the class's own. Raises UsageTypeError for a name that can't be one."""
    found: dict[str, Parameter] = {}
    for base in reversed(cls.__mro__[1:]):
        found.update(base.__dict__.get("__mrq_parameters__", {}))
    for name, annotation in cls.__annotations__.items():
        if _is_classvar(annotation):
            continue
        if name in RESERVED or name.startswith("_"):
            from mrq.errors import UsageTypeError

            raise UsageTypeError(
                f"{cls.__name__}.{name}: {name!r} is the engine's name, choose another"
                if name in RESERVED
                else f"{cls.__name__}.{name}: a parameter's name can't begin with an underscore; "
                "for state, assign it in setup (or annotate it as ClassVar)"
            )
        found[name] = Parameter(name, annotation, cls.__dict__.get(name, REQUIRED), cls)
    for name in found.keys() - cls.__annotations__.keys():
        if name in cls.__dict__:  # a subclass gives an inherited parameter another default
            old = found[name]
            found[name] = Parameter(name, old.annotation, cls.__dict__[name], old.owner)
    return found


def _is_classvar(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.split("[")[0].strip().endswith("ClassVar")
    return annotation is ClassVar or getattr(annotation, "__origin__", None) is ClassVar

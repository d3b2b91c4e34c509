"""From what the user typed, or a class at hand, to a job class whose code can be shipped."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from mrq.errors import JobDefinitionError
from mrq.job import imports, source
from mrq.job.base import MAPS, Job, defined, is_job
from mrq.job.bundle import importing
from mrq.settings.checks import nearest

#: In a module that `load_job` imported: the checksum of its source then.
_LOADED: Final = "__mrq_loaded__"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedJob:
    """A job class and where its code lies."""

    cls: type[Job]
    file: str  #: absolute
    module: str  #: the dotted name that executors import it by
    root: str  #: the folder that `module` and local imports are found under

    @property
    def entry(self) -> str:
        """`module:Class`, for `bundle.import_entry`."""
        return f"{self.module}:{self.cls.__qualname__}"


def load_job(ref: str) -> LoadedJob:
    """The job that `file.py`, `file.py:Class` or `package.module:Class` names.

    Imports the file, leaving no .pyc beside it. Raises JobDefinitionError with one sentence.
    """
    place, colon, name = ref.rpartition(":")
    if not colon or "/" in name:
        place, name = ref, ""
    if colon and not name:
        raise JobDefinitionError(f"{ref}: write file.py:Class")
    file = _file_of(place, ref)
    module, root = _name_of(file)
    loaded = _import(file, module, root)
    return LoadedJob(cls=_choose(loaded, file, name), file=file, module=module, root=root)


def from_class(cls: type[Job]) -> LoadedJob:
    """A class that the running program has, `__main__`'s too. Raises JobDefinitionError."""
    name = f"{cls.__module__}.{cls.__qualname__}"
    if "<locals>" in cls.__qualname__:
        raise JobDefinitionError(
            f"{name} is defined inside a function, where executors can't import it; "
            "move the class to the top level of its file"
        )
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py") or not os.path.isfile(file):
        raise JobDefinitionError(
            f"{name} is defined in an interactive session, and executors need a file to import; "
            "write the class to a file such as job.py and import it from there"
        )
    file = os.path.abspath(file)
    dotted, root = _name_of(file)
    name = cls.__module__
    if name == "__main__":
        _refuse_guarded(cls, file)
        name = getattr(getattr(module, "__spec__", None), "name", None) or ""  # python -m package.module
    # The name that the module was imported by, where the file's folders agree with it.
    parts, stem = name.split("."), file.removesuffix("/__init__.py").removesuffix(".py").split(os.sep)
    if name and stem[-len(parts) :] == parts:
        dotted, root = name, os.sep.join(stem[: -len(parts)]) or os.sep
    return LoadedJob(cls=cls, file=file, module=dotted, root=root)


def _refuse_guarded(cls: type[Job], file: str) -> None:
    """Raise for a class that only the running program has: one under `if __name__ == "__main__":`."""
    name = cls.__qualname__.partition(".")[0]
    for node in imports.parse(file).body:
        if not isinstance(node, ast.If) or "'__main__'" not in ast.dump(node.test):
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.ClassDef) and inner.name == name:
                raise JobDefinitionError(
                    f"{source.place(file, inner.lineno)}: {name} is defined under "
                    '`if __name__ == "__main__":`, which executors don\'t run; '
                    "move the class to the top level of the file"
                )


# ---- which file ----


def _file_of(place: str, ref: str) -> str:
    """The absolute path of the job's file. Raises JobDefinitionError."""
    if not place:
        raise JobDefinitionError(f"{ref!r} names no job; write file.py or package.module:Class")
    if os.path.isdir(place):
        inside = sorted(n for n in os.listdir(place) if n.endswith(".py"))[:3]
        such = f", such as {os.path.join(place, inside[0])}" if inside else ""
        raise JobDefinitionError(f"{place} is a directory; name the job's file{such}")
    if os.path.isfile(place):
        if not place.endswith(".py"):
            raise JobDefinitionError(f"{place} is not a Python file (its name must end in .py)")
        if not os.access(place, os.R_OK):
            raise JobDefinitionError(f"{place} can't be read: permission denied")
        return os.path.abspath(place)
    if os.path.exists(place):
        raise JobDefinitionError(f"{place} is not a regular file")
    if place.endswith(".py") or "/" in place:
        names: list[str] = []
        with suppress(OSError):
            names = [n for n in os.listdir(os.path.dirname(place) or ".") if n.endswith(".py")]
        hint = nearest(os.path.basename(place), names)
        raise JobDefinitionError(f"no such job file: {place}{hint if 'did you mean' in hint else ''}")
    return _file_of_module(place, ref)


def _file_of_module(name: str, ref: str) -> str:
    """Where `package.module` lies, looked up from the current folder as `python -m` does."""
    cwd = os.getcwd()
    if cwd not in sys.path:
        sys.path.insert(0, cwd)
    if not all(part.isidentifier() for part in name.split(".")):
        raise JobDefinitionError(f"no such job file: {ref}")
    spec = None
    with importing(name), _no_pyc(), suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec(name)  # imports the parents
    if spec is None:
        raise JobDefinitionError(f"no such job file or module: {ref}; write file.py or package.module:Class")
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise JobDefinitionError(f"{name} has no Python source file to ship to executors")
    return os.path.abspath(spec.origin)


def _name_of(file: str) -> tuple[str, str]:
    """(module, root), refusing a name that executors couldn't import by."""
    module, root = imports.module_of(file)
    top = module.partition(".")[0]
    if imports.is_python_s_or_ours(top):
        whose = "mrq's own" if top == "mrq" else "one of Python's own modules"
        raise JobDefinitionError(
            f"{source.short_path(file)} is named like {whose} ({top}), so it can't be imported; rename it"
        )
    stem = os.path.basename(file).removesuffix(".py")
    if "." in stem:
        raise JobDefinitionError(
            f"{source.short_path(file)} can't be imported with a dot in its name; "
            f"rename it to {stem.replace('.', '_')}.py"
        )
    return module, root


# ---- importing it ----


def _import(file: str, module: str, root: str) -> ModuleType:
    """The module of `file`, this very file even where another of its name is loaded."""
    local = imports.follow(file, module, root)
    _forget_outdated(local.modules)
    before = set(sys.modules)
    if root in sys.path:
        sys.path.remove(root)
    sys.path.insert(0, root)
    importlib.invalidate_caches()
    with importing(file), _no_pyc():
        made = importlib.import_module(module)
    for name, path in local.modules.items():
        if name in sys.modules and name not in before:
            vars(sys.modules[name])[_LOADED] = _stamp(path)
    return made


def _forget_outdated(local: Mapping[str, str]) -> None:
    """Drop local modules that are another file's, and those of earlier loads if one has changed since.

    A notebook loads a file again after each edit. What the program itself imported is left as it is.
    """
    ours: dict[str, bool] = {}
    for name, path in local.items():
        known = sys.modules.get(name)
        if known is None:
            continue
        file = getattr(known, "__file__", None)
        if not file or os.path.realpath(file) != os.path.realpath(path):
            for other in list(sys.modules):  # of that name from elsewhere, with its submodules
                if other == name or other.startswith(name + "."):
                    del sys.modules[other]
        elif _LOADED in vars(known):
            ours[name] = vars(known)[_LOADED] != _stamp(path)
    if any(ours.values()):
        for name in ours:
            sys.modules.pop(name, None)


def _stamp(path: str) -> int:
    """Of a source file's content."""
    with open(path, "rb") as f:
        return zlib.crc32(f.read())


@contextmanager
def _no_pyc() -> Iterator[None]:
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


# ---- which class ----


def _choose(module: ModuleType, file: str, name: str) -> type[Job]:
    """The class named, or the only job of the file. Raises JobDefinitionError."""
    shown = source.short_path(file)
    own: dict[str, type[Job]] = {
        key: value
        for key, value in vars(module).items()
        if is_job(value) and value.__module__ == module.__name__ and value.__qualname__ == key
    }
    if name:
        found: object = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is None:
            raise JobDefinitionError(f"{shown} has no class {name}{nearest(name, own)}")
        if not is_job(found):
            raise JobDefinitionError(
                f"{name} in {shown} is not a job: it must derive from mrq.Job (class {name}(mrq.Job):)"
            )
        return found
    if not own:
        own_classes = (v for v in vars(module).values() if isinstance(v, type))
        plain = [v.__name__ for v in own_classes if v.__module__ == module.__name__]
        hint = f"; should {plain[0]} derive from it (class {plain[0]}(mrq.Job):)?" if len(plain) == 1 else ""
        raise JobDefinitionError(f"{shown} has no class that derives from mrq.Job{hint}")
    # Without those that are there to derive from, as far as any is left: abstract ones, those without a map,
    # and those that others of the file derive from.
    bases = {base for cls in own.values() for base in cls.__mro__[1:]}
    able = {name: cls for name, cls in own.items() if not inspect.isabstract(cls)} or own
    able = {
        name: cls for name, cls in able.items() if any(defined(cls, hook) for hook in (*MAPS, "stages"))
    } or able
    able = {name: cls for name, cls in able.items() if cls not in bases} or able
    if len(able) > 1:
        names = sorted(able)
        raise JobDefinitionError(
            f"{shown} has {len(able)} jobs: {', '.join(names)}; name one, such as {shown}:{names[0]}"
        )
    return next(iter(able.values()))

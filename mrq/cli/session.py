"""One command of `mrq`: what was typed, where its words go, its engine, and what `--json` prints of it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mrq.cli.command_table import Parsed
from mrq.cli.console import Console, print_json
from mrq.cli.signals import Signals
from mrq.cli.wording import in_flags
from mrq.errors import UsageError
from mrq.io.disk import working_folder
from mrq.settings import checks

if TYPE_CHECKING:
    from mrq.core.info import JobInfo
    from mrq.engine.engine import Engine
    from mrq.settings.cluster import Profile

_LOG: Final = logging.getLogger(__name__)
_VARIABLES: Final = ("MRQ_CLUSTER", "MRQ_AMQP_URL", "MRQ_REDIS_URL")


@dataclass(slots=True, kw_only=True)
class Session:
    """One command under way; what `--json` will print of it is filled as it goes on."""

    console: Console = field(default_factory=Console)
    signals: Signals = field(default_factory=Signals)
    parsed: Parsed = field(default_factory=Parsed)
    job: str | None = None
    name: str | None = None
    output: str | None = None
    notes: tuple[str, ...] = ()
    engine: str = "embedded"
    cluster: str | None = None  #: its name, without any password
    where: str = ""  #: what another command needs to find the same cluster: " --cluster prod"
    fate: str | None = None  #: what becomes of the job when a signal ends this command
    info: JobInfo | None = None  #: the job as it was seen last

    def has(self, switch: str) -> bool:
        """Whether a flag without value was given, by its name in Python: `dry_run`."""
        return switch in self.parsed.given

    @property
    def json(self) -> bool:
        """Whether one JSON object is to be printed."""
        return self.has("json")

    def take(self, parsed: Parsed) -> None:
        """Go by a command line that was taken apart."""
        self.parsed = parsed
        said, text = "--log-format", parsed.given.get("log_format")
        if text is None:
            said, text = "MRQ_LOG_FORMAT", os.environ.get("MRQ_LOG_FORMAT") or "text"
        try:
            self.console.show(quiet=self.has("quiet"), json=checks.log_format(text) == "json")
        except ValueError as exc:
            raise UsageError(f"{said} {text}: log_format must be {exc}") from None

    def head(self, status: str, exit_code: int = 0) -> dict[str, Any]:
        """The fields of `mrq.cli.objects.JsonAnswer`, of what this command has told so far."""
        return {
            "status": status,
            "exit_code": exit_code,
            "engine": self.engine,
            "cluster": self.cluster,
            "job": self.job,
            "name": self.name,
            "output": self.output,
            "notes": tuple(in_flags(note) for note in self.notes),
            "info": self.info,
        }

    def answer(self, kind: Callable[..., Any], status: str, exit_code: int = 0, **fields: Any) -> None:
        """Print one object of `mrq.cli.objects`."""
        print_json(kind(**{**self.head(status, exit_code), **fields}))

    def is_local(self) -> bool:
        """Whether this machine is meant. Nothing of a cluster is imported to find that out.

        Raises UsageError for half a cluster, and for a mrq.toml that can't be read.
        """
        name = self.parsed.given.get("cluster")
        if name is not None:
            return bool(name == "local")
        from mrq.settings import files

        said = any(os.environ.get(each) for each in _VARIABLES)
        if not said and not files.may_choose(os.environ, working_folder()):
            return True
        from mrq.settings import cluster as profile

        return profile.choose(None, env=os.environ, cwd=working_folder()).name == profile.LOCAL

    def executors(self) -> int:
        """-j, or the cores that this process may use."""
        return self.parsed.given.get("executors") or len(os.sched_getaffinity(0))

    def refuse_local(self, command: str) -> None:
        """For commands that ask a cluster. Raises UsageError where this machine is meant."""
        if self.is_local():
            raise UsageError(
                f"mrq {command} asks a cluster, and none is named: give --cluster NAME, or set MRQ_AMQP_URL "
                "and MRQ_REDIS_URL; jobs on this machine are listed by `mrq retry`"
            )

    def profile(self) -> Profile:
        """The settings of the cluster that is meant. Raises UsageError."""
        from mrq.settings import cluster as profile

        given = self.parsed.given
        flags = {name: text for name, text in given.items() if name in profile.KEYS}
        found = profile.load(given.get("cluster"), flags=flags, env=os.environ, cwd=working_folder())
        self.console.show(quiet=self.has("quiet"), json=found.log_format == "json")
        return found

    @contextlib.contextmanager
    def on_cluster(self, *, headline: bool = True) -> Iterator[Engine]:
        """A cluster's engine, closed in the end; `headline` says which cluster that is. Raises UsageError."""
        found = self.profile()
        where = found.state()
        self.engine, self.cluster = "cluster", found.name
        self.where = f" --cluster {found.name}" if "cluster" in self.parsed.given else ""
        from mrq.engine.remote import cluster_engine

        if headline:
            name = f" {found.name}," if found.name != str(where) else ","
            _LOG.info(f"cluster{name} state in {where}")
        with contextlib.closing(cluster_engine(found)) as engine:
            yield engine

    @contextlib.contextmanager
    def on_this_machine(self) -> Iterator[Engine]:
        """An engine whose executors start now; whatever happens, it is closed with nothing left behind."""
        executors = self.executors()
        debug = ""  #: what MRQ_DEBUG will do
        if os.environ.get("MRQ_DEBUG"):
            from mrq.worker.debug import parse

            debug = str(parse(os.environ) or "")
        with self.signals.noting():
            from mrq.engine.local import local_engine

            engine = local_engine(executors=executors)
        try:
            self.signals.check()
            noun = "executor" if executors == 1 else "executors"
            _LOG.info(f"embedded: {executors} {noun}, temporary files in {engine.root}")
            if debug:
                _LOG.info(debug, extra={"style": "yellow"})
            yield engine
        finally:
            with self.signals.noting():
                engine.close(remove=True)

"""Which packages a bundle can't do without."""

from __future__ import annotations

from pathlib import Path

from mrq.job import bundle, packages


def required(tmp_path: Path, **files: str) -> list[str]:
    paths = {}
    for name, text in files.items():
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        paths[f"{name}.py"] = str(path)
    return [module for module, _ in packages.required(bundle.pack(paths))]


def test_only_what_is_installed_and_neither_pythons_own_nor_the_bundles(tmp_path: Path) -> None:
    text = "import os, mrq, helper\nimport msgpack\nfrom pytest import mark\nimport nobody_has_this\n"
    assert required(tmp_path, job=text, helper="import json\n") == ["msgpack", "pytest"]


def test_imports_inside_functions_count(tmp_path: Path) -> None:
    assert required(tmp_path, job="def map(self):\n    import msgpack\n") == ["msgpack"]


def test_what_may_be_missing_does_not_count(tmp_path: Path) -> None:
    text = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import pytest\n"
        "try:\n    import msgpack\nexcept ImportError:\n    msgpack = None\n"
        "if __name__ == '__main__':\n    import hypothesis\n"
    )
    assert required(tmp_path, job=text) == []


def test_the_distributions_are_named(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("import grpc\n")
    found = packages.required(bundle.pack({"job.py": str(tmp_path / "job.py")}))
    assert found == (("grpc", ("grpcio",)),)

"""What the first container of `docker compose up` writes (infra/compose/init.py)."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from mrq.settings.files import read_secrets

SCRIPT = Path(__file__).parents[2] / "infra" / "compose" / "init.py"
FOLDERS = ("DATA", "SECRETS", "RABBITMQ", "REDIS", "PROJECT")


@pytest.fixture
def init(tmp_path: Path) -> ModuleType:
    """The script with its folders in tmp_path, by their names there."""
    spec = importlib.util.spec_from_file_location("compose_init", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        setattr(module, name, tmp_path / name)
    return module


def written(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (path.read_text(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_secrets_are_of_the_form_that_mrq_reads_and_the_same_in_both_places(
    init: ModuleType, tmp_path: Path
) -> None:
    init.main()
    inside = read_secrets(str(tmp_path / "SECRETS" / "secrets.toml"), "this test")
    outside = read_secrets(str(tmp_path / "PROJECT" / ".mrq" / "secrets.toml"), "this test")
    assert inside.amqp_user == inside.redis_user == "mrq"
    assert inside.amqp_password == outside.amqp_password
    assert inside.key == outside.key
    assert len({inside.amqp_password, inside.redis_password, inside.key}) == 3


def test_a_second_up_changes_nothing_and_mends_what_is_gone(init: ModuleType, tmp_path: Path) -> None:
    init.main()
    first = written(tmp_path)
    init.main()
    assert written(tmp_path) == first
    (tmp_path / "PROJECT" / ".mrq" / "secrets.toml").unlink()
    (tmp_path / "REDIS" / "users.acl").write_text("user default on nopass ~* +@all\n")
    (tmp_path / "SECRETS" / "secrets.toml").chmod(0o644)
    init.main()
    assert written(tmp_path) == first


def test_each_cluster_has_secrets_of_its_own(init: ModuleType, tmp_path: Path) -> None:
    init.main()
    first = written(tmp_path)["SECRETS/secrets.toml"]
    (tmp_path / "SECRETS" / "secrets.toml").unlink()
    init.main()
    assert written(tmp_path)["SECRETS/secrets.toml"] != first


def test_secrets_of_an_older_version_stay_and_get_what_they_lack(init: ModuleType, tmp_path: Path) -> None:
    init.main()
    path = tmp_path / "SECRETS" / "secrets.toml"
    older = "".join(line for line in path.read_text().splitlines(True) if "fetch" not in line)
    older += '[old_keys]\n0 = "a key that was rolled out before this one"\n'
    path.write_text(older)
    init.main()
    text = path.read_text()
    assert text.endswith(older)
    known = read_secrets(str(path), "this test")
    assert known.redis_fetch_user == "mrq-fetch"
    assert known.redis_fetch_password not in (None, known.redis_password)
    init.main()
    assert path.read_text() == text


def test_the_servers_get_hashes_only(init: ModuleType, tmp_path: Path) -> None:
    init.main()
    known = read_secrets(str(tmp_path / "SECRETS" / "secrets.toml"), "this test")
    assert known.amqp_password is not None
    assert known.redis_password is not None
    files = written(tmp_path)
    for name, (text, mode) in files.items():
        if not name.endswith("secrets.toml"):
            assert known.amqp_password not in text
            assert known.redis_password not in text
            assert known.redis_fetch_password is not None
            assert known.redis_fetch_password not in text
            assert known.key not in text
        else:
            assert mode == 0o600
    user = json.loads(files["RABBITMQ/definitions.json"][0])["users"][0]
    salted = base64.b64decode(user["password_hash"])
    assert salted[4:] == hashlib.sha256(salted[:4] + known.amqp_password.encode()).digest()
    assert user["tags"] == []
    acl = files["REDIS/users.acl"][0].splitlines()
    assert acl[0] == "user default off resetpass ~* &* +@all"
    assert f"#{hashlib.sha256(known.redis_password.encode()).hexdigest()} ~mrq:* " in acl[2]
    assert known.redis_fetch_password is not None
    hashed = hashlib.sha256(known.redis_fetch_password.encode()).hexdigest()
    assert acl[3] == f"user mrq-fetch on #{hashed} {init.REDIS_FETCH_RIGHTS}"

"""Where a cluster's settings come from, what is refused, and that no password is ever shown."""

import json
import os
from pathlib import Path

import pytest

import mrq
from mrq.core.pathmap import PathMap
from mrq.engine.remote import cluster_engine
from mrq.errors import UsageError
from mrq.planning import Request
from mrq.settings import cluster as profile
from mrq.settings.cluster import KEYS
from mrq.settings.urls import parse_url

AMQP = "amqp://ann:s3cret-a@rabbit:5673/jobs"
REDIS = "redis://:s3cret-r@redis/2"


@pytest.fixture
def there(tmp_path):
    """A folder with nothing above it that counts."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here" / "below").mkdir(parents=True)
    return tmp_path


def toml(there: Path, text: str, *, folder: str = "here") -> Path:
    path = there / folder / "mrq.toml"
    path.write_text(text)
    return path


def load(there, name=None, *, flags=None, cwd="here/below", **env):
    return profile.load(
        name, flags=flags or {}, env={"HOME": str(there / "home"), **env}, cwd=str(there / cwd)
    )


def choose(there, name=None, **env):
    return profile.choose(name, env={"HOME": str(there / "home"), **env}, cwd=str(there / "here/below"))


PROD = """
cluster = "prod"
prefix = "top"
keep_s = "2d"

[profiles.prod]
amqp_url = "amqp://rabbit/"
redis_url = "redis://redis"
prefix = "prod"
[profiles.prod.paths]
"./data" = "/data"
"""


def test_flags_then_environment_then_profile_then_top_then_default(there):
    path = toml(there, PROD)
    got = load(there, flags={"timeout_s": "5m"}, MRQ_TIMEOUT_S="7", MRQ_MAP_SLOTS="3", MRQ_REDUCE_SLOTS="")
    assert (got.timeout_s, got.map_slots, got.prefix, got.keep_s) == (300.0, 3, "prod", 172800.0)
    assert got.reduce_slots is None
    assert got.sources["timeout_s"] == "--timeout"
    assert got.sources["map_slots"] == "MRQ_MAP_SLOTS"
    assert got.sources["prefix"] == f"{path}:9"
    assert got.sources["keep_s"] == f"{path}:4"
    assert got.sources["paths"] == f"{path}:10"
    assert got.sources["reduce_slots"] == "default"
    assert load(there, MRQ_PREFIX="env").prefix == "env"


def test_a_profile_named_by_whoever_runs_it_brings_its_servers(there):
    toml(there, PROD)
    env = {"MRQ_AMQP_URL": AMQP, "MRQ_REDIS_URL": REDIS, "MRQ_PREFIX": "env"}
    assert load(there, "prod", **env).redis_url.host == "redis"
    assert load(there, "prod", **env).redis_url.path == "0"
    assert load(there, "prod", **env).prefix == "env"
    # … but one that the surroundings name doesn't win over the surroundings' own servers.
    assert load(there, **env).redis_url.path == "2"


def test_which_cluster_is_meant(there):
    assert choose(there).name == "local"
    assert choose(there, "x").name == "x"
    path = toml(there, PROD)
    assert choose(there) == profile.Choice(name="prod", source=f"{path}:2")
    assert choose(there, MRQ_AMQP_URL=AMQP, MRQ_REDIS_URL=REDIS).name == "environment"
    assert choose(there, MRQ_AMQP_URL=AMQP, MRQ_REDIS_URL=REDIS, MRQ_CLUSTER="local").name == "local"
    toml(there, "[profiles.prod]\n")
    assert choose(there).name == "local"


def test_the_nearest_file_counts_before_the_users_own(there):
    (there / "home/.config/mrq").mkdir(parents=True)
    toml(there, 'prefix = "own"\nkeep_s = 9\n[profiles.x]\n', folder="home/.config/mrq")
    assert load(there, "x").prefix == "own"
    toml(there, 'prefix = "far"')
    got = load(there, "x")
    assert (got.prefix, got.keep_s) == ("far", 9.0)
    toml(there, 'prefix = "near"', folder="here/below")
    assert load(there).prefix == "near"


@pytest.mark.parametrize("given", ["MRQ_AMQP_URL", "MRQ_REDIS_URL"])
def test_one_server_without_the_other_is_refused_by_name(there, given):
    env = {given: AMQP if given == "MRQ_AMQP_URL" else REDIS}
    other = "MRQ_REDIS_URL" if given == "MRQ_AMQP_URL" else "MRQ_AMQP_URL"
    with pytest.raises(UsageError, match=f"{given} is set and {other} isn't"):
        choose(there, **env)
    with pytest.raises(UsageError, match=f"{given} is set and {other} isn't"):
        load(there, **env)


def test_half_a_profile_is_refused_with_its_place(there):
    path = toml(there, '[profiles.p]\namqp_url = "amqp://rabbit"\n')
    with pytest.raises(
        UsageError, match=rf"amqp_url \({path}:2\) is set and redis_url \(MRQ_REDIS_URL\) isn't"
    ):
        load(there, "p")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prefx = 'a'", r"mrq.toml:1: there is no setting 'prefx'; did you mean 'prefix'\?"),
        ("encoding = 'utf-8'", r"mrq.toml:1: there is no setting 'encoding' of a cluster: it is a job's"),
        ("[profiles.p]\nreducers = 1", r"'reducers' of a cluster: .* or --reducers of mrq submit"),
        ("memory = '1K'", "mrq.toml:1: memory must be a size of at least 16M, not '1K'"),
        ("backups = 1", "mrq.toml:1: backups must be True or False, not 1"),
        ("[profile.p]\n", r"mrq.toml:1: there is no setting 'profile'; did you mean 'profiles'\?"),
        (
            "\n[profiles.p]\nprefix='x'\nmap_slot = 2",
            r"mrq.toml:4: there is no setting 'map_slot'; did you mean 'map_slots'\?",
        ),
        ("prefix = \n", r"mrq.toml:1 isn't TOML: Invalid value"),
        ("keep_s = [1]", r"mrq.toml:1: keep_s must be a time such as 90, 90s, 10m or 7d, not \[1\]"),
        ("map_slots = '2'", r"mrq.toml:1: map_slots must be a whole number from 0 to 1,024, not '2'"),
        ("map_slots = true", "must be a whole number"),
        ("prefix = 'a.b'", "must be at most 63 letters"),
        ("paths = 'x'", r"must be a table such as \[paths\]"),
        ("[paths]\n'./data' = 'data'", "the cluster's side absolute"),
        ("advertise = 'host'", "must be HOST:PORT, not 'host'"),
        ("insecure = 'true'", "insecure must be true or false, not 'true'"),
        ("disk_quota = '1k'", "must be a size of at least 64M, not '1k'"),
        ("amqp_url = 'redis://x'", "must be a URL such as amqp://HOST:5672/VHOST, not one with redis://"),
        ("redis_url = 'localhost:6379'", "not one with no scheme"),
        ("redis_url = 'redis://h/mrq'", "the database is a number, not 'mrq'"),
        ("redis_url = 'redis://h:port/1'", "its port or host can't be read"),
        ("profiles = 3", r"mrq.toml:1: profiles are tables; write \[profiles.NAME\]"),
        ("cluster = 3", "cluster must be a profile's name, not 3"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_line(there, text, said):
    toml(there, text)
    with pytest.raises(UsageError, match=said):
        load(there)


class Plain(mrq.Job):
    def map(self, key, line):
        yield key, line


class Own(Plain, max_failures=9, max_running=None, memory=None):
    pass


def test_a_profile_says_how_its_jobs_run_that_say_nothing_else(there):
    path = toml(
        there,
        'priority = 5\nmax_running = 7\n[profiles.p]\nredis_url = "redis://r"\namqp_url = "amqp://r"\n'
        'memory = "1G"\nmax_failures = 2\nmax_running = 8\nbackups = false\n',
    )
    got = load(there, "p")
    assert got.job == {
        "memory": 1 << 30,
        "max_failures": 2,
        "max_running": 8,
        "backups": False,
        "priority": 5,
    }
    assert got.sources["memory"] == f"{path}:6"
    assert got.show()["max_running"] == (8, f"{path}:8")
    assert "split_size" not in got.show()
    (there / "in.txt").write_text("a")

    def spec(job, **overrides):
        with cluster_engine(got) as engine:
            return engine.draft(Request(ref=job, inputs=["in.txt"], overrides=overrides)).spec

    plain = spec(Plain)
    assert (plain.memory_bytes, plain.max_failures, plain.max_running) == (1 << 30, 2, 8)
    assert (plain.priority, plain.backups, plain.max_losses) == (5, False, 3)
    own = spec(Own, backups=True, priority=0)
    # None is a value of its own for max_running; for the others it leaves the choice to the engine.
    assert (own.memory_bytes, own.max_failures, own.max_running) == (1 << 30, 9, None)
    assert (own.backups, own.priority) == (True, 0)
    assert spec(Own, max_failures=None).max_failures == 2
    assert spec(Plain, memory="64M").memory_bytes == 64 << 20


def test_an_unknown_profile_names_the_nearest_or_what_is_missing(there):
    with pytest.raises(
        UsageError, match=r"no profile 'prdo' \(asked for by --cluster\): no mrq.toml was found"
    ):
        load(there, "prdo")
    path = toml(there, PROD)
    with pytest.raises(UsageError, match=rf"no profile 'prdo' .* in {path}; did you mean 'prod'\?"):
        load(there, "prdo")
    with pytest.raises(UsageError, match="asked for by MRQ_CLUSTER"):
        load(there, MRQ_CLUSTER="prdo")


def test_flags_and_variables_are_refused_by_their_names(there):
    with pytest.raises(UsageError, match="MRQ_KEEP_S must be a time"):
        load(there, MRQ_KEEP_S="soon")
    with pytest.raises(UsageError, match="--map-slots must be a whole number"):
        load(there, flags={"map_slots": "many"})


def test_a_redis_url_is_a_cluster_and_a_rabbitmq_url_is_not(there):
    got = load(there, "redis://bob:s3cret@r:1/4", MRQ_AMQP_URL=AMQP, MRQ_REDIS_URL=REDIS)
    assert got.name == "redis://bob:***@r:1/4"
    assert got.state().full() == "redis://bob:s3cret@r:1/4"
    assert got.amqp_url is None
    with pytest.raises(UsageError, match="amqp_url is not set: set MRQ_AMQP_URL"):
        got.services()
    with pytest.raises(UsageError, match="names a RabbitMQ; give the cluster's Redis"):
        load(there, AMQP)


def secrets(there, text, mode=0o600):
    path = there / "here" / "secrets.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_passwords_come_from_the_file_of_secrets_and_are_never_shown(there):
    toml(
        there,
        PROD + '\n[profiles.s]\namqp_url="amqp://r"\nredis_url="redis://q"\nsecrets_file="secrets.toml"',
    )
    path = secrets(
        there,
        'amqp_user="mrq"\namqp_password="pa/ss@1"\nredis_password="pw-2"\n'
        f'key_id="k2"\nkey="{"k" * 32}"\n[old_keys]\nk1="{"o" * 40}"\n',
    )
    got = load(there, "s")
    assert got.amqp_url.full() == "amqp://mrq:pa%2Fss%401@r:5672/%2F"
    assert got.redis_url.full() == "redis://:pw-2@q:6379/0"
    assert got.key_id == "k2"
    assert got.keys == {"k1": b"o" * 40, "k2": b"k" * 32}
    assert str(path) in got.sources["amqp_url"]
    shown = repr(got) + str(got.amqp_url) + repr(got.amqp_url) + json.dumps(list(got.show().values()))
    for hidden in ("pa/ss", "pa%2Fss", "pw-2", "kkkk", "oooo"):
        assert hidden not in shown
    assert "mrq:***@r:5672" in shown


def test_a_file_of_secrets_that_others_may_read_is_refused(there):
    path = secrets(there, "", mode=0o640)
    with pytest.raises(UsageError, match=rf"mode 0640\); run: chmod 600 {path}"):
        load(there, MRQ_SECRETS_FILE=str(path))


def give_away(path, monkeypatch):
    """Have a file belong to somebody else, who isn't root, whoever runs the suite. Returns the owner."""
    if os.getuid() == 0:
        os.chown(path, 1234, 1234)
        return 1234
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    return owner


def test_a_file_of_secrets_of_somebody_else_is_refused(there, monkeypatch):
    path = secrets(there, "")
    owner = give_away(path, monkeypatch)
    with pytest.raises(UsageError, match=rf"belongs to another user \(uid {owner}\)"):
        load(there, MRQ_SECRETS_FILE=str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("redis_pasword = 'x'", r"secrets.toml:1: there is no secret 'redis_pasword'; did you mean"),
        ("key = 'short'", "key must be a string of at least 32 characters"),
        ("\namqp_password = 7", "secrets.toml:2: amqp_password must be a string in quotes"),
        ("key = []]", r"secrets.toml:1 isn't TOML"),
    ],
)
def test_what_is_wrong_in_the_secrets_is_said(there, text, said):
    with pytest.raises(UsageError, match=said):
        load(there, MRQ_SECRETS_FILE=str(secrets(there, text)))


def test_missing_secrets_name_who_asked(there):
    with pytest.raises(UsageError, match="named by MRQ_SECRETS_FILE, can't be read: No such file"):
        load(there, MRQ_SECRETS_FILE="nowhere.toml")


def test_without_a_key_everybody_with_the_same_redis_password_derives_the_same(there):
    one = load(there, "redis://a:pw@h/1")
    other = load(there, "redis://b:pw@elsewhere/2")
    third = load(there, "redis://a:other@h/1")
    assert one.keys == other.keys != third.keys
    assert one.sources["key"] == "derived from the Redis password"
    assert one.secret_key() == one.keys[one.key_id]
    assert load(there, "redis://h/1").secret_key() is None
    assert load(there, "redis://h/1").keys


def test_paths_of_this_machine_become_the_clusters(there):
    toml(there, '[paths]\n"./data" = "/data"\n"./data/big" = "/mnt/big"')
    paths = PathMap.of(load(there).paths, "/")
    here = str(there / "here")
    assert paths.to_cluster(f"{here}/data/in/x.txt") == "/data/in/x.txt"
    assert paths.to_cluster(f"{here}/data/big/x") == "/mnt/big/x"
    assert paths.to_cluster(f"{here}/database") is None


def test_a_typo_in_a_variable_is_noted(there):
    (note,) = load(there, MRQ_AMPQ_URL=AMQP).notes
    assert note == "MRQ_AMPQ_URL is set, but mrq has no such variable; did you mean 'MRQ_AMQP_URL'?"


def test_a_file_that_somebody_left_in_a_folder_for_everybody_is_passed_over(there, monkeypatch):
    give_away(toml(there, PROD), monkeypatch)
    assert choose(there).name == "prod"
    (there / "here").chmod(0o1777)
    assert choose(there).name == "local"


def test_urls_are_read_and_written_alike():
    for text in ("amqp://u:p%2F@[::1]:5672/a%2Fb", "amqps://h:5671/%2F", "rediss://:x@h:6379/3"):
        schemes = ("amqp", "amqps") if text.startswith("amqp") else ("redis", "rediss")
        assert parse_url(text, schemes=schemes).full() == text
    assert parse_url("amqps://h", schemes=("amqp", "amqps")).port == 5671


def test_every_setting_is_shown_with_its_source(there):
    rows = load(there).show()
    assert list(KEYS) == list(rows)[: len(KEYS)]
    assert rows["prefix"] == ("mrq", "default")

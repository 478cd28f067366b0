"""The configuration: found, checked with every fault at once, and upgraded."""

import contextlib
import json
import os
import traceback
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.config import (
    Budgets,
    Config,
    check_files,
    claude_folder,
    config_schema,
    describe_migration,
    find_config,
    load_settings,
    migrate_config,
    project_of,
    server_url,
    user_folder,
    validate_config,
)
from claude_force.base.errors import ConfigError
from claude_force.base.pricing import ModelPrice
from claude_force.base.servers import check_redis_url, is_on_this_machine, is_web_address, parse_url, shown_url

SPEC: dict[str, Any] = {
    "agents": {"python-expert": {"path": "agents/python-expert.md"}},
    "workflows": {"check": {"name": "Check", "steps": [{"id": "linter", "agent": "linter", "task": "..."}]}},
    "performance": {"async_enabled": True, "max_concurrent_agents": 10},
    "cache": {"enabled": True, "ttl_hours": 24, "max_size_mb": 100, "exclude_agents": []},
    "features": {"async_enabled": True, "cache_enabled": True, "parallel_workflows_enabled": True},
    "preload_skills": False,
}


LATE = {"name": "late", "metric": "p95_ms", "above": 1}


def write(folder: Path, data: object) -> Path:
    """A project's config file with this content."""
    path = folder / ".claude" / "claude.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_the_documented_config_is_valid() -> None:
    """The example of the documentation loads, and means the defaults."""
    config = validate_config(SPEC)
    assert config.agents["python-expert"].path == "agents/python-expert.md"
    assert (config.cache, config.features, config.performance) == (
        Config().cache,
        Config().features,
        Config().performance,
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"cach": {}}, "cach: unknown key; did you mean 'cache'?"),
        ({"cache": {"ttl_hour": 1}}, "cache.ttl_hour: unknown key; did you mean 'ttl_hours'?"),
        ({"zzz": 1}, "zzz: unknown key; known here: $schema, agents, alerts"),
        ({"cache": {"enabled": "yes"}}, "cache.enabled: expected bool, got str"),
        ({"cache": []}, "cache: expected an object, got a list"),
        ({"cache": {"ttl_hours": 0}}, "cache.ttl_hours: expected float > 0.0"),
        ({"agents": {"a": {}}}, "agents.a.path: missing"),
        ({"agents": {"a": {"pth": "x", "path": "y"}}}, "agents.a.pth: unknown key; did you mean 'path'?"),
        ({"defaults": {"effort": "hihg"}}, "defaults.effort: invalid enum value 'hihg'; did you mean 'high'?"),
        ({"defaults": {"max_retries": -1}}, "defaults.max_retries: expected int >= 0"),
        ({"cache": {"exclude_agents": ["a", 3]}}, "cache.exclude_agents[1]: expected str, got int"),
        ({"pricing": {"m": {"input": -1, "output": 2}}}, "pricing.m.input: expected float >= 0.0"),
        ({"workflows": {"w": []}}, "workflows.w: expected object, got array"),
        ({"routing": {"max_tier": "opsu"}}, "routing.max_tier: invalid enum value 'opsu'; did you mean 'opus'?"),
        ({"routing": {"min_tier": "fable"}}, "routing: min_tier is 'fable' and max_tier 'opus', which leaves none"),
        ({"base_url": "http://elsewhere"}, "base_url: unknown key"),
        ({"alerts": [3]}, "alerts[0]: expected an object, got a number"),
        ({"alerts": [{"name": "a", "metric": "p95_ms"}]}, "alerts[0]: give either above or below"),
        ({"alerts": [LATE | {"below": 2}]}, "alerts[0]: give either above or below"),
        ({"alerts": [LATE | {"window": "25h"}]}, "alerts[0]: window is '25h'; give a day (24h) at the most"),
        ({"alerts": [LATE | {"window": "1441m"}]}, "alerts[0]: window is '1441m'"),
        ({"alerts": [LATE, LATE | {"window": "24h"}]}, "alerts: 2 have the name 'late'"),
        ({"endpoints": [{"name": "x"}, {"name": "x"}, {"name": "y"}]}, "endpoints: 2 have the name 'x'"),
        ({"endpoints": [{"name": "x", "base_url": "h"}]}, "endpoints[0].base_url: give https://host, without user"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_fault_names_its_key(data: dict[str, Any], problem: str) -> None:
    """Each fault has the path of its key, what is wrong, and the nearest valid name."""
    with pytest.raises(ConfigError) as caught:
        validate_config(data, path=Path("x.json"))
    (only,) = caught.value.problems
    assert only.startswith(problem)
    assert "x.json" in str(caught.value)
    assert problem in str(caught.value)


def test_all_faults_come_at_once() -> None:
    """Nobody has to mend a file one fault at a time."""
    with pytest.raises(ConfigError) as caught:
        validate_config({"cach": {}, "cache": {"enabled": 1, "x": 2}, "agents": {"a": {}, "b": 3}})
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is not JSON"), ("[]", "holds no JSON object"), ("", "is not JSON"), ('{"a": 1,}', "is not JSON")],
)
def test_a_broken_file_is_a_clear_error(tmp_path: Path, content: str, said: str) -> None:
    """What is no JSON object is named with its path."""
    path = write(tmp_path, content)
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings(path)
    assert caught.value.path == str(path)


def test_a_missing_or_unreadable_file_is_a_clear_error(tmp_path: Path) -> None:
    """A path that was asked for must exist and be a file."""
    with pytest.raises(ConfigError, match="claude-force init"):
        load_settings(tmp_path / "nowhere.json")
    with pytest.raises(ConfigError, match="cannot read"):
        load_settings(tmp_path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """A file that Windows saved loads."""
    path = tmp_path / "claude.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(SPEC).encode())
    assert load_settings(path).config.agents


def test_the_search_order(tmp_path: Path) -> None:
    """Here, then the parents up to the repository root, then the user's; never above the root."""
    home, repository = tmp_path / "home", tmp_path / "outer" / "repository"
    deep = repository / "a" / "b"
    deep.mkdir(parents=True)
    home.mkdir()
    (repository / ".git").mkdir()
    write(tmp_path / "outer", SPEC)
    assert find_config(deep, home=home) is None
    (home / "claude.json").write_text("{}")
    assert find_config(deep, home=home) == home / "claude.json"
    at_root = write(repository, SPEC)
    assert find_config(deep, home=home) == at_root
    here = write(deep, SPEC)
    assert find_config(deep, home=home) == here
    assert claude_folder(repository / "a") == repository / ".claude"


def test_outside_a_repository_parents_are_not_searched(tmp_path: Path) -> None:
    """Somebody else's config in a parent folder does not apply by accident."""
    write(tmp_path, SPEC)
    (tmp_path / "inner").mkdir()
    assert find_config(tmp_path / "inner", home=tmp_path / "home") is None


OLD: dict[str, Any] = {
    "version": "1.0.0",
    "agents": {
        "reviewer": {"file": "agents/reviewer.md", "contract": "c", "domains": ["quality"], "priority": 1},
        "plain": "agents/plain.md",
    },
    "workflows": {"bug-fix": ["finder", "reviewer", "finder"], "chain": "finder -> reviewer"},
    "governance": {"hooks_enabled": True},
    "paths": {"task": "task.md"},
}


def test_an_old_config_loads(tmp_path: Path) -> None:
    """Files of claude-force 1 and 2 work without being touched on disk."""
    path = write(tmp_path, OLD)
    before = path.read_bytes()
    settings = load_settings(path)
    assert settings.config.agents["reviewer"].path == "agents/reviewer.md"
    assert settings.config.agents["reviewer"].keywords == ["quality"]
    assert settings.config.agents["plain"].path == "agents/plain.md"
    steps = settings.config.workflows["bug-fix"]["steps"]
    assert [(step["id"], step["agent"], step["dependencies"]) for step in steps] == [
        ("finder", "finder", []),
        ("reviewer", "reviewer", ["finder"]),
        ("finder-2", "finder", ["reviewer"]),
    ]
    assert [step["agent"] for step in settings.config.workflows["chain"]["steps"]] == ["finder", "reviewer"]
    assert settings.migrations == describe_migration(OLD, migrate_config(OLD))
    assert settings.migrations[0] == "governance: dropped, nothing reads it"
    assert "agents.plain: rewritten in the newer form" in settings.migrations
    assert "workflows.chain: rewritten in the newer form" in settings.migrations
    assert settings.migrations[-1] == "version: 1.0.0 is now 2.3"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("chain", "ids"),
    [
        ("a -> b", ["a", "b"]),
        ("a→b", ["a", "b"]),
        ("a, b", ["a", "b"]),
        (["a", "a-2", "a"], ["a", "a-2", "a-3"]),
        (["a"], ["a"]),
    ],
    ids=str,
)
def test_old_workflows_become_chains(chain: object, ids: list[str]) -> None:
    """Whatever the separator, each step has an id of its own, works on the input, and follows the one before it."""
    flow = migrate_config({"workflows": {"w": chain}})["workflows"]["w"]
    assert [step["id"] for step in flow["steps"]] == ids
    assert [step["dependencies"] for step in flow["steps"]] == [[], *([before] for before in ids[:-1])]
    assert {step["task"] for step in flow["steps"]} == {"{{ inputs.task }}"}
    assert flow["inputs"] == {"task": {"type": "string", "required": True}}


@pytest.mark.parametrize(
    ("old", "new"), [("1", "2.3"), ("1.0.0", "2.3"), ("2", "2.3"), ("2.2.0", "2.3"), ("2.3", "2.3"), ("3.0", "3.0")]
)
def test_old_versions_are_raised(old: str, new: str) -> None:
    """Only the versions before this one."""
    assert migrate_config({"version": old})["version"] == new


@pytest.mark.parametrize("odd", [[1], ["a", ""], {"steps": []}, 5, "a ->"], ids=str)
def test_what_is_no_chain_is_left_alone(odd: object) -> None:
    """For the checks to say what is wrong with it."""
    assert migrate_config({"workflows": {"w": odd}})["workflows"]["w"] == odd


def test_nothing_of_the_users_is_lost() -> None:
    """An old entry that already has newer keys keeps them."""
    old = {"agents": {"a": {"file": "old.md", "path": "new.md", "keywords": ["k"], "domains": ["d"]}}}
    assert migrate_config(old)["agents"]["a"] == {"path": "new.md", "keywords": ["k"]}


def test_files_that_the_config_names_must_be_there(tmp_path: Path) -> None:
    """A missing agent file gets the path of its key and the nearest name; loading does not insist."""
    (tmp_path / "linter.md").write_text("x")
    path = tmp_path / "claude.json"
    path.write_text('{"agents": {"a": {"path": "lintr.md"}, "b": {"path": "linter.md"}}}')
    settings = load_settings(path)
    with pytest.raises(ConfigError) as caught:
        check_files(settings)
    assert caught.value.problems == ("agents.a.path: no file 'lintr.md'; did you mean 'linter.md'?",)


@pytest.mark.parametrize("kind", ["folder", "dangling link", "circle"])
def test_a_config_that_is_no_file_is_said(tmp_path: Path, kind: str) -> None:
    """Settings that somebody meant to make are never passed over in silence."""
    path = tmp_path / ".claude/claude.json"
    if kind == "circle":  # which makes even a look at the file an error
        path.parent.symlink_to(path.parent)
    else:
        path.parent.mkdir()
        path.mkdir() if kind == "folder" else path.symlink_to("nowhere")
    with pytest.raises(ConfigError):
        load_settings(start=tmp_path)


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container without a home the user's own folder is one that cannot be."""
    monkeypatch.setenv("HOME", "~nobody-at-all")
    assert not user_folder().exists()
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", "/somewhere")
    assert user_folder() == Path("/somewhere")


def test_the_project_of_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that `.claude` lies in, or else that of the file."""
    monkeypatch.chdir(tmp_path)
    assert project_of(None) == tmp_path
    assert project_of("p/.claude/claude.json") == project_of(tmp_path / "p/any.json") == tmp_path / "p"


def test_the_argument_of_a_migration_is_left_alone() -> None:
    """`migrate_config` gives a new dictionary."""
    before = json.dumps(OLD)
    migrate_config(OLD)
    assert json.dumps(OLD) == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_a_small_new_config_is_not_called_old() -> None:
    """Leaving sections out is fine, and nobody is told to upgrade."""
    small = {"pricing": {"m": {"input": 1, "output": 2}}}
    assert describe_migration(small, migrate_config(small)) == ()


@given(st.dictionaries(st.sampled_from([*SPEC, "version", "governance", "other"]), json_values))
def test_migration_is_done_once(config: dict[str, Any]) -> None:
    """Whatever the file holds, migrating twice changes nothing more, and nothing crashes."""
    once = migrate_config(config)
    assert migrate_config(once) == once
    assert describe_migration(once, once) == ()


@given(json_values)
def test_validation_never_crashes(value: object) -> None:
    """Any JSON in any place gives a config or a `ConfigError`."""
    for key in SPEC:
        with contextlib.suppress(ConfigError):
            assert isinstance(validate_config({key: value}), Config)


def test_the_shipped_schema_is_fresh() -> None:
    """The JSON Schema for editors describes the config that this code reads."""
    shipped = Path(__file__).parents[2] / "docs" / "reference" / "claude.schema.json"
    assert json.loads(shipped.read_text()) == json.loads(msgspec.json.encode(config_schema()))


def test_a_pipe_is_no_config(tmp_path: Path) -> None:
    """A repository can bring a pipe or a device along; reading it would never end."""
    os.mkfifo(tmp_path / "claude.json")
    with pytest.raises(ConfigError, match="no regular file"):
        load_settings(tmp_path / "claude.json")


def test_a_config_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    """A few bytes of a repository can be as many as fill the memory: a file of nothing packs well."""
    with (tmp_path / "claude.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="more than 16 MB"):
        load_settings(tmp_path / "claude.json")


ENDPOINTS = {"endpoints": [{"name": "mine"}]}
REMOTE = {"cache": {"url": "rediss://app:hidden@cache.example:6380/0"}}


def test_a_projects_file_sends_nothing_to_another_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloned repository brings it along; who names the file, or has it in the own home, has said so."""
    path = project / ".claude/claude.json"
    path.write_text(json.dumps(REMOTE))
    with pytest.raises(ConfigError, match=r"cache\.url: a project's file .* set CLAUDE_CACHE_URL") as caught:
        load_settings(start=project)
    assert "hidden" not in str(caught.value)
    path.write_text(json.dumps(REMOTE | ENDPOINTS))
    with pytest.raises(ConfigError, match="endpoints: your keys go there") as caught:
        load_settings(start=project)
    assert len(caught.value.problems) == 2
    path.write_text(json.dumps(REMOTE))
    assert load_settings(path).config.cache.url == REMOTE["cache"]["url"]
    user_folder().mkdir()
    (user_folder() / "claude.json").write_text(json.dumps(ENDPOINTS))
    path.write_text("{}")
    assert [one.name for one in load_settings(start=project).config.endpoints] == ["mine"]
    path.unlink()
    (user_folder() / "claude.json").write_text(json.dumps(REMOTE))
    assert load_settings(start=project).config.cache.url == REMOTE["cache"]["url"]
    home = user_folder().parent
    (project / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(project / "link"))
    assert load_settings(start=home).config.cache.url == REMOTE["cache"]["url"]


def test_a_project_does_not_say_what_claude_costs(project: Path) -> None:
    """Who could, would lift every limit, `--max-usd` as well; the user's own prices hold in every project."""
    path, own = project / ".claude/claude.json", user_folder() / "claude.json"
    path.write_text('{"pricing": {"claude-opus-5-5": {"input": 0, "output": 0}}}')
    with pytest.raises(ConfigError, match=r"pricing\.claude-opus-5-5: your limits count by it"):
        load_settings(start=project)
    assert load_settings(path).config.prices()["claude-opus-5-5"].input == 0
    path.write_text('{"pricing": {"qwen3:8b": {"input": 1, "output": 1}, "other": {"input": 1, "output": 1}}}')
    own.parent.mkdir()
    own.write_text('{"pricing": {"qwen3:8b": {"input": 2, "output": 2}, "claude-opus-5-5": {"input": 3, "output": 3}}}')
    prices = load_settings(start=project).config.prices()
    assert {name: price.input for name, price in prices.items()} == {"qwen3:8b": 2, "other": 1, "claude-opus-5-5": 3}


def test_a_project_lifts_no_limit_of_yours(project: Path) -> None:
    """Your own hold in every project, where its are not lower; with a file that you name, those of the file."""
    path, own = project / ".claude/claude.json", user_folder() / "claude.json"
    path.write_text('{"budgets": {"per_day_usd": 100, "per_run_usd": 1, "per_agent_per_day_usd": {"a": 9, "b": 1}}}')
    own.parent.mkdir()
    own.write_text('{"budgets": {"per_day_usd": 5, "per_agent_per_day_usd": {"a": 2, "b": 2, "c": 3}}}')
    limits = load_settings(start=project).config.budgets
    assert limits == Budgets(per_day_usd=5, per_run_usd=1, per_agent_per_day_usd={"a": 2, "b": 1, "c": 3})
    assert load_settings(path).config.budgets.per_day_usd == 100


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("redis://127.0.0.1:6379/0", True),
        ("redis://[::1]:6379", True),
        ("postgresql://me@localhost/db", True),
        ("sqlite:///.claude/engine.db", True),
        ("postgresql://localhost/db?host=db.example", False),
        ("postgresql://localhost,db.example/db", False),
        ("postgresql:///db", False),
        ("redis://localhost@cache.example", False),
        ("redis://cache.example", False),
        ("sqlite:////etc/engine.db", False),
        ("sqlite:///../engine.db", False),
        ("sqlite://cache.example/engine.db", False),
        ("redis://[broken", False),
    ],
)
def test_what_a_project_may_name(url: str, *, is_local: bool) -> None:
    """This machine, without anything that could mean another."""
    assert is_on_this_machine(url) is is_local


WEB = [
    ("https://api.example", True),
    ("http://127.0.0.1:8080/v1", True),
    *((f"https://{rest}", False) for rest in ("", "me@h", "me:it@h", "h?key=it", "h#it", "h:it", "[h")),
    ("ftp://h", False),
    ("h", False),
]


@pytest.mark.parametrize(("url", "is_one"), WEB)
def test_what_is_a_web_address(url: str, *, is_one: bool) -> None:
    """It says where an API is, and nothing that would have to be kept secret."""
    assert is_web_address(url) is is_one


NONE = r"k is '\(no address\)'"
REDIS = [
    ("redis://h", None),
    ("redis://h:6379/0", None),
    ("rediss://h/1?ssl_certfile=x&ssl_check_hostname=", None),
    *((f"redis://me:it@{rest}", "k is 'redis:") for rest in ("", "/0", "h/x", "h/0#it")),
    ("redis://me:it@h?x=", r"k has the options \['x'\]"),
    ("redis://me:it@h?ssl_certfile=x", r"k has the options \['ssl_certfile'\]"),
    ("rediss://me:it@h?db=1", r"k has the options \['db'\]"),
    ("http://me:it@h", "k is 'http://h'; give redis://... or rediss://..."),
    ("redis://me:it@h:it", "k is no address; give redis://... or rediss://..."),
    *((f"redis://me:secret{mark}it@h/0", "k is no address; .*%2F") for mark in "/?#[\N{CARE OF}"),
    *((f"redis://:1234{mark}secret@h/0", NONE) for mark in "/?#"),
    *((f"redis://me:1234{mark}secret@h/0", NONE) for mark in "/?#"),
    *((f"{start}me:secret@h", NONE) for start in ("", "redis:", "ftp:")),
]


@pytest.mark.parametrize(("url", "fault"), REDIS)
def test_what_is_the_address_of_a_redis(url: str, fault: str | None) -> None:
    """Else it is said what is wrong, without who asks."""
    with pytest.raises(ConfigError, match=fault) if fault else contextlib.nullcontext() as caught:
        parts = parse_url(url, named="k", schemes=("redis", "rediss"))
        check_redis_url(parts, named="k")
        assert parts.geturl() == url
    said = "".join(traceback.format_exception(caught.value)) if caught else ""
    assert not {part for part in ("me:it@", "1234", "secret") if part in said}


@given(
    st.text()
    | st.from_regex(r"\A(redis|https)://([a-z:@]{0,9}@)?[a-z.]{1,9}(:[0-9]{1,4})?(/[0-9])?([?#][a-z=@]{0,9})?\Z")
)
def test_an_address_is_shown_without_who_asks(url: str) -> None:
    """Whatever it is; and what is shown is shown as it is."""
    shown = shown_url(url)
    assert shown == "(no address)" or not {"@", "?", "#"} & set(shown.partition("://")[2].partition("/")[0])
    assert shown_url(shown) == shown


def test_a_config_is_shown_without_secrets() -> None:
    """Addresses of servers say where, and not who asks; all else is as it was."""
    engine = "sqlite:///.claude/engine.db"
    config = validate_config(REMOTE | {"shared": {"url": "redis://h?x=it"}, "engine": {"url": engine}, "name": "n"})
    shown = config.shown()
    assert list(shown.servers().values()) == ["rediss://cache.example:6380/0", "redis://h", engine]
    assert msgspec.structs.replace(shown, cache=config.cache, shared=config.shared) == config


def test_prices_of_the_config_are_exact() -> None:
    """Each rate in its place, a tenth as a tenth; one that is left out is not known."""
    rates = {"input": 0.1, "output": 0.2, "cache_read": 0.3, "cache_write_5m": 0.4, "cache_write_1h": 0.7}
    config = validate_config({"pricing": {"m": rates, "n": {"input": 0, "output": 1}}})
    assert config.prices() == {
        "m": ModelPrice(**{name: Decimal(str(rate)) for name, rate in rates.items()}),
        "n": ModelPrice(input=Decimal(0), output=Decimal(1)),
    }


def test_the_environment_goes_first() -> None:
    """It is the user's, as no file of a project is."""
    config = validate_config({"cache": {"url": "redis://localhost"}})
    assert server_url(config, "cache.url", {}) == "redis://localhost"
    assert server_url(config, "cache.url", {"CLAUDE_CACHE_URL": "redis://elsewhere"}) == "redis://elsewhere"
    assert server_url(config, "engine.url", {}) is None

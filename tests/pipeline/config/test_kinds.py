"""Sections that come in kinds: engines, rewriters, annotators. Each takes its own keys and no other kind's."""

from typing import Any

import pytest

from pipeline.config.data import AnnotatorSettings, RewriterSettings
from pipeline.config.engine import EngineSettings
from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError
from pipeline.core.kinds import OneOfKinds

PLACES = {
    "engine": EngineSettings,
    "stages.cold_start_data.rewriter": RewriterSettings,
    "stages.reward_model.annotator": AnnotatorSettings,
}
WHOLE: dict[str, dict[str, Any]] = {
    "vllm": {"max_model_len": 256},
    "vllm-server": {"max_model_len": 256, "server_urls": ["http://localhost:8000"]},
    "transformers": {"max_model_len": 256},
    "endpoint": {"url": "http://localhost:8000/v1", "model": "m"},
    "pocket": {},
    "none": {},
}
"""What each kind needs."""
OTHER_VALUES = {"temperature": 0.5, "max_tokens": 9}
"""Of keys that every rewriter once had: at their defaults they are still read."""


def foreign_keys() -> list[tuple[str, str, str, Any, str]]:
    """(place, kind, a key that it does not have, a value, the kind that has it)."""
    found = []
    for place, family in PLACES.items():
        for kind, section in family.kinds.items():
            for other, elsewhere in family.kinds.items():
                made = {**elsewhere.model_validate(WHOLE[other]).model_dump(mode="json"), **OTHER_VALUES}
                keys = elsewhere.model_fields.keys() - section.model_fields.keys() - {"asking"}
                found += [(place, kind, key, made[key], other) for key in sorted(keys)]
    return found


def load(place: str, kind: str, **keys: Any):
    text = ", ".join(f"{key}: {value!r}" for key, value in {"kind": kind, **WHOLE[kind], **keys}.items())
    return load_profile("pocket", [f"{place}={{{text}}}"]).profile


def at(profile: Any, place: str) -> OneOfKinds:
    for part in place.split("."):
        profile = getattr(profile, part)
    return profile


@pytest.mark.parametrize(("place", "family"), PLACES.items())
def test_every_kind_loads_as_the_section_of_its_own(place, family):
    for kind, section in family.kinds.items():
        loaded = at(load(place, kind), place)
        assert type(loaded) is section
        assert family.any_kind() is not None
        assert type(family(**loaded.model_dump())) is section


@pytest.mark.parametrize(
    ("place", "kind", "key", "value", "owner"),
    [case for case in foreign_keys() if case[2] not in EngineSettings.passed_over],
)
def test_a_key_of_another_kind_is_refused_by_name(place, kind, key, value, owner):
    with pytest.raises(ConfigError) as error:
        load(place, kind, **{key: value})
    for part in (f"SET {place}", f"{place}.{key}", f"kind={kind!r}", repr(owner)):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("place", "kind", "key", "value", "owner"),
    [case for case in foreign_keys() if case[2] in EngineSettings.passed_over],
)
def test_sizes_and_waits_of_another_engine_are_passed_over(place, kind, key, value, owner):
    """As they were while all engines had one section: they change no result."""
    with_it, without = at(load(place, kind, **{key: value}), place), at(load(place, kind), place)
    assert with_it == without and type(with_it) is EngineSettings.kinds[kind]
    assert EngineSettings(kind=kind, **WHOLE[kind], **{key: value}) == EngineSettings(kind=kind, **WHOLE[kind])


@pytest.mark.parametrize(("place", "kind", "key", "value", "owner"), foreign_keys())
def test_a_kind_set_more_specifically_leaves_the_other_kinds_keys_behind(place, kind, key, value, owner, tmp_path):
    below = tmp_path / "below.yaml"
    lines = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(place.split(".")))
    section = {"kind": owner, **WHOLE[owner], key: value}
    below.write_text(f"extends: pocket\nname: below\n{lines}{'  ' * lines.count(':')}{section!r}\n")
    loaded = load_profile(str(below), [f"{place}.kind={kind}", *overrides(place, kind)])
    assert at(loaded.profile, place).kind == kind
    assert any(f"{place}.{key}" in note and "below.yaml" in note for note in loaded.notes)


def overrides(place: str, kind: str) -> list[str]:
    return [f"{place}.{key}={value}" for key, value in WHOLE[kind].items()]


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("engine.kind=vlm", ["'engine.kind' is \"vlm\"", "'vllm'", "'vllm-server'", "'transformers'"]),
        ("engine.kind=null", ["'engine.kind' is null", "'vllm'"]),
        ("engine.kv_cache_gb=1", ["unknown key 'engine.kv_cache_gb'", "Did you mean 'kv_cache_gib'"]),
        ("engine.kv_cache_gib=none", ["'engine.kv_cache_gib' is \"none\"", "integer"]),
        ("engine=[]", ["'engine' is []"]),
        ("stages.cold_start_data.rewriter=endpoint", ["rewriter.url' is missing", "kind: endpoint needs"]),
        ("stages.reward_model.annotator=judge", ['annotator.kind\' is "judge"', "'endpoint'", "'pocket'"]),
        ("stages.reward_model.url=http://x", ["annotator.url", "kind='pocket'", "'endpoint'"]),
        ("stages.reward_model.annotator.urll=http://x", ["unknown key 'stages.reward_model.annotator.urll'"]),
    ],
)
def test_an_error_names_the_key_as_it_is_written(override, parts):
    with pytest.raises(ConfigError) as error:
        load_profile("pocket", [override])
    for part in ("SET ", *parts):
        assert part in str(error.value)


@pytest.mark.parametrize("as_file", [True, False])
def test_an_annotator_can_be_written_as_it_once_was(tmp_path, as_file):
    """Its kind alone, with `url` and `model` beside it, in a file as well as by SET, over a parent as well as whole."""
    url, model = "http://localhost:8000/v1", "m"
    if as_file:
        path = tmp_path / "mine.yaml"
        path.write_text(
            "extends: pocket\nname: mine\n"
            f"stages: {{reward_model: {{annotator: endpoint, url: '{url}', model: {model}}}}}\n"
        )
        profile = load_profile(str(path)).profile
    else:
        keys = {"annotator": "endpoint", "url": url, "model": model}
        profile = load_profile("pocket", [f"stages.reward_model.{k}={v}" for k, v in keys.items()]).profile
    assert profile == load("stages.reward_model.annotator", "endpoint").model_copy(update={"name": profile.name})


def test_part_of_an_annotator_changes_that_part_of_the_parents(tmp_path):
    override = ["stages.reward_model.model=another"]
    was = load_profile("paper").profile.stages.reward_model.annotator
    assert load_profile("paper", override).profile.stages.reward_model.annotator == was.model_copy(
        update={"model": "another"}
    )


@pytest.mark.parametrize(
    ("below", "above"), [("servers=4", "server_urls=[http://a:8000]"), ("server_urls=[http://a:8000]", "servers=4")]
)
def test_servers_that_stand_and_servers_to_start_replace_each_other(tmp_path, below, above):
    key, _, value = below.partition("=")
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: pocket\nname: mine\nengine: {{kind: vllm-server, {key}: {value}}}\n")
    loaded = load_profile(str(path), [f"engine.{above}"])
    alone = load_profile("pocket", ["engine.kind=vllm-server", f"engine.{above}"])
    assert loaded.profile.engine == alone.profile.engine
    assert any(f"engine.{key} of {path} is replaced" in note for note in loaded.notes)
    with pytest.raises(ConfigError, match="set one of the two"):
        load_profile("pocket", ["engine.kind=vllm-server", f"engine.{above}", f"engine.{below}"])


def test_a_key_without_a_value_says_nothing_of_another_kind():
    once = "stages.cold_start_data.rewriter.temperature=0.0"
    nothing = [once, "engine.server_urls=[]", "stages.reward_model.url=null", "stages.reward_model.model=null"]
    assert load_profile("pocket", nothing).profile == load_profile("pocket").profile


@pytest.mark.parametrize(
    ("changes", "token", "expected"),
    [
        ({}, 10**6, 8 * (2 + 1) * 32 * 10**6),  # blocks of 32 tokens, one of them begun ahead
        ({}, 1000, 256 << 20),
        ({"max_sequences": 10**6}, 1000, 4 << 30),  # those that do not fit wait
        ({"max_model_len": 10**6, "max_sequences": 10**6}, 10**5, (31_250 + 1) * 32 * 10**5),  # one must fit
        ({"kv_cache_gib": 2}, 1000, 2 << 30),
        ({}, None, 4 << 30),
    ],
)
def test_a_cache_is_as_large_as_its_sequences(changes, token, expected):
    assert EngineSettings(**{"max_model_len": 64, "max_sequences": 8} | changes).cache_bytes(token) == expected

"""Strict profiles: what is refused, what the message says, what overrides and parents do."""

import pytest

from pipeline.config.data import Asking, RewriterSettings
from pipeline.config.loading import load_profile, read_value
from pipeline.config.reward_model import RewardTraining
from pipeline.config.sft import SFTSettings
from pipeline.config.stages import RewardModelStage
from pipeline.core.errors import ConfigError


def write(tmp_path, text: str, name: str = "mine.yaml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["pocket", "smoke"])
def test_the_profiles_here_load(name):
    assert load_profile(name).profile.name == name


def test_a_child_changes_what_it_names_and_keeps_the_rest(tmp_path):
    path = write(tmp_path, "extends: pocket\nname: mine\nstages: {r1_zero: {grpo: {max_steps: 7}}}\n")
    mine, pocket = load_profile(path).profile, load_profile("pocket").profile
    assert mine.stages.r1_zero.grpo.max_steps == 7
    assert mine.stages.r1_zero.grpo.learning_rate == pocket.stages.r1_zero.grpo.learning_rate


def test_overrides_win_over_the_file_and_the_last_one_wins():
    profile = load_profile("pocket", ["stages.r1_zero.grpo.max_steps=5", "stages.r1_zero.grpo.max_steps=6"]).profile
    assert profile.stages.r1_zero.grpo.max_steps == 6


def test_scientific_notation_without_a_dot_is_a_number():
    profile = load_profile("pocket", ["stages.r1_zero.grpo.learning_rate=1e-6"]).profile
    assert profile.stages.r1_zero.grpo.learning_rate == 1e-6


@pytest.mark.parametrize("earlier", ["best_from=50", "keep_best=true", "set=general"])
def test_an_override_of_a_mapping_replaces_earlier_ones_within_it(earlier):
    whole = "stages.general_rl.heldout={set: reasoning, every: 20}"
    profile = load_profile("pocket", [f"stages.general_rl.heldout.{earlier}", whole]).profile
    assert profile == load_profile("pocket", [whole]).profile


def test_an_item_of_a_list_can_be_overridden():
    profile = load_profile("pocket", ["stages.r1_zero.rewards.1.weight=0.5"]).profile
    assert [reward.weight for reward in profile.stages.r1_zero.rewards] == [1.0, 0.5]


def test_the_seed_argument_replaces_the_files():
    assert load_profile("pocket", seed=11).profile.seed == 11


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("stages.r1_zero.grpo.max_stepz=5", ["max_stepz", "5", "Did you mean 'max_steps'", "SET"]),
        ("stages.r1_zero.grpo.max_steps=many", ["max_steps", '"many"', "integer"]),
        ("stages.r1_zero.grpo.max_steps=true", ["max_steps", "true"]),
        ("stages.r1_zero.grpo.max_steps=-1", ["max_steps", "-1"]),
        ("stages.r1_zero.grpo.rollout_prompts=24", ["rollout_prompts=24", "prompts_per_step=16"]),
        ("stages.sft.sft.rows_per_device=5", ["rows_per_device 5", "batch_size 32"]),
        ("engine.max_model_len=64", ["max_model_len 64", "max_completion_tokens"]),
        ("stages.r1_zero.questions={chess: 5}", ["chess", "reasoning"]),
        ("stages.student_rl.student=gpt", ["gpt", "qwen", "llama"]),
        ("stages.r1_zero.heldout.set=aime", ["aime", "reasoning"]),
        ("stages.student_rl.heldout={set: aime}", ["student_rl.heldout.set", "aime", "reasoning"]),
        ("stages.evaluate.consensus=[4096]", ["consensus has 4096", "cons@4096", "samples to 4096"]),
        ("stages.cold_start_data.rewriter={kind: endpoint}", ["endpoint", "url"]),
        ("templates.r1_zero=User says", ["{question}"]),
        ("stages.r1_zero.rewards=[]", ["rewards"]),
        ("name=a/b", ["name", "a/b"]),
        ("novalue", ["novalue", "key=value"]),
        ("stages..r1_zero=1", ["key=value"]),
        ("seed.x=1", ["seed", "no keys"]),
        ("stages.r1_zero.rewards.9.weight=1", ["9", "0 to 1"]),
        ("stages.r1_zero.rewards=[{use: accuracy", ["YAML"]),
        ("extends=paper", ["PROFILE"]),
    ],
)
def test_a_bad_override_is_refused_with_key_and_value(override, parts):
    with pytest.raises(ConfigError) as error:
        load_profile("pocket", [override])
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("extends: pocket\nname: mine\nname: yours\n", ["mine.yaml", "line 3", "twice"]),
        ("extends: pocket\nstagez: {}\n", ["mine.yaml", "stagez", "Did you mean 'stages'"]),
        ("- a list\n", ["mine.yaml", "mapping"]),
        ("name: [unclosed\n", ["mine.yaml", "not valid YAML"]),
        ("extends: nowhere\n", ["nowhere", "Profiles here"]),
        ("extends: mine.yaml\n", ["circle"]),
        ("extends: pocket\n1: 2\n", ["quotes"]),
        ("extends: [pocket]\n", ["extends"]),
        ("name: mine\n", ["missing"]),
        ("extends: pocket\nseed: 2020-01-01\n", ["plain values"]),
        ("", ["missing"]),
    ],
)
def test_a_bad_file_is_refused_naming_it(tmp_path, text, parts):
    with pytest.raises(ConfigError) as error:
        load_profile(write(tmp_path, text))
    for part in parts:
        assert part in str(error.value)


def test_an_error_names_the_file_that_set_the_key(tmp_path):
    write(tmp_path, "extends: pocket\nname: parent\nseed: -3\n", "parent.yaml")
    child = write(tmp_path, "extends: parent.yaml\nname: child\n", "child.yaml")
    with pytest.raises(ConfigError, match=r"parent\.yaml"):
        load_profile(child)


def test_an_unknown_profile_lists_those_that_are_there():
    with pytest.raises(ConfigError, match="pocket"):
        load_profile("pockets")


def test_a_profile_is_frozen():
    profile = load_profile("pocket").profile
    with pytest.raises(Exception, match="frozen"):
        profile.seed = 3


def test_keys_that_came_later_leave_the_identity_of_earlier_runs_alone():
    endpoint = {"annotator": "endpoint", "url": "http://x/v1", "model": "m"}
    plain, asked = RewardModelStage(**endpoint), RewardModelStage(**endpoint, asking=Asking(concurrency=2))
    more = RewardModelStage(**endpoint, annotator_max_tokens=9)
    assert plain.model_dump(mode="json") == asked.model_dump(mode="json")
    assert more.model_dump(mode="json") == {**plain.model_dump(mode="json"), "annotator_max_tokens": 9}
    assert {"asking", "annotator_max_tokens"}.isdisjoint(plain.model_dump())
    assert {"kind", "url", "model", "temperature", "max_tokens"} == set(RewriterSettings().model_dump())


@pytest.mark.parametrize(("section", "key"), [(SFTSettings, "rows_per_device"), (RewardTraining, "pairs_per_device")])
def test_a_batch_smaller_than_a_forward_pass_is_one_pass(section, key):
    assert section(batch_size=4, **{key: 8}).batch_size == 4
    with pytest.raises(ValueError, match=f"batch_size 20 is not a multiple of {key} 8"):
        section(batch_size=20, **{key: 8})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("010", 10), ("042", 42), ("08", 8), ("0o17", 15), ("0x1F", 31), ("-3", -3), ("+7", 7), ("1e-6", 1e-6),
        ("12e3", 12000.0), (".5", 0.5), ("1.", 1.0), ("-1.5E+2", -150.0), ("1:30", "1:30"), ("1:30.5", "1:30.5"),
        ("1_000", "1_000"), ("0b11", "0b11"), ("0o8", "0o8"), ("1.2.3", "1.2.3"), ("e5", "e5"),
    ],
)  # fmt: skip
def test_numbers_are_those_of_yaml_1_2(written, read):
    value = read_value(written, "SET")
    assert value == read
    assert type(value) is type(read)


@pytest.mark.parametrize("written", ["1:30", "1_000", "0b11"])
def test_what_older_yaml_took_for_a_number_is_refused_as_the_text_that_it_is(written):
    with pytest.raises(ConfigError, match=f'"{written}"'):
        load_profile("pocket", [f"stages.r1_zero.grpo.max_steps={written}"])


def test_a_number_that_no_program_reads_is_refused():
    with pytest.raises(ConfigError, match="cannot be read"):
        read_value("9" * 5000, "SET")

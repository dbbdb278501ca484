"""Servers that take over a trainer's weights: every completion is by the weights that were asked for, or by none."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.core.errors import LadderError, RunError
from pipeline.engines import EngineSettings, Sampling, open_engine
from pipeline.engines.servers import ServerError
from pipeline.engines.weight_folders import OWNER, WeightFolders, check_whole
from tests.pipeline.engines.tiny import tiny_checkpoint
from tests.pipeline.engines.weight_server import AT_START, WeightServer, _sum

PROMPTS = [[5] * k for k in range(1, 9)]
SAMPLING = Sampling(max_tokens=4, seed=3)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [tiny_checkpoint(folder / str(seed), "qwen3", seed=seed) for seed in range(2)]


@pytest.fixture
def opened(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.engines.servers.FIRST_REST_S", 0.01)
    monkeypatch.setattr("pipeline.engines.servers.STRAGGLER_S", 0.5)
    engines = []

    def opened(*servers, at: Path = checkpoints[0], **settings):
        keys = {"weights_folder": str(tmp_path / "weights"), "server_timeout_s": 60.0, "max_sequences": 4} | settings
        urls = [server.url for server in servers]
        engines.append(
            open_engine(
                EngineSettings(kind="vllm-server", max_model_len=64, dtype="float32", server_urls=urls, **keys), at
            )
        )
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


@pytest.fixture
def policy(checkpoints):
    return AutoModelForCausalLM.from_pretrained(checkpoints[0], dtype=torch.float32)


def moved(model, by: float = 0.01):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by
    return model


def total(model) -> float:
    return sum(float(parameter.detach().double().abs().sum()) for parameter in model.parameters())


def written_with(groups) -> set[float]:
    """Figures of the weights that wrote the completions."""
    return {round(-logprob, 3) for group in groups for c in group for logprob in c.logprobs}


def test_a_sync_reaches_every_server_and_each_token_says_which_weights_wrote_it(opened, policy, checkpoints):
    servers = [WeightServer(checkpoints[0], 50), WeightServer(checkpoints[0], 51)]
    engine = opened(*servers)
    versions = []
    for _ in range(3):
        engine.sync_weights(moved(policy))
        groups = engine.generate(PROMPTS, 2, SAMPLING)
        assert written_with(groups) == {round(total(policy), 3)}
        assert {span for group in groups for c in group for span in c.spans} == {(engine.version, 0, 3)}
        assert [server.version for server in servers] == [engine.version] * 2
        assert not any(server.paused for server in servers)
        versions.append(engine.version)
    assert len(set(versions)) == 3
    assert {c.token_ids[0] for group in groups for c in group} == {50, 51}


def test_rows_are_the_same_whatever_the_number_of_servers(opened, checkpoints):
    drawn = []
    for count in (1, 2, 3):
        engine = opened(*(WeightServer(checkpoints[0], 50) for _ in range(count)))
        drawn.append(engine.generate(PROMPTS, 3, SAMPLING))
    assert drawn[0] == drawn[1] == drawn[2]
    assert len({c.token_ids[2] for group in drawn[0] for c in group}) == 3 * len(PROMPTS)


def test_a_server_that_comes_back_with_old_weights_writes_nothing_before_it_has_caught_up(opened, policy, checkpoints):
    steady, dying = WeightServer(checkpoints[0], 50), WeightServer(checkpoints[0], 51)
    engine = opened(steady, dying)
    engine.sync_weights(moved(policy))
    dying._restarted()
    groups = [engine.generate(PROMPTS, 2, SAMPLING.model_copy(update={"seed": seed})) for seed in range(3)]
    assert all(written_with(each) == {round(total(policy), 3)} for each in groups)
    assert dying.version == engine.version
    assert {c.token_ids[0] for each in groups for group in each for c in group} == {50, 51}
    assert sum(path == "update_weights" for path, _ in steady.log) == 1


def test_a_single_server_that_was_started_anew_is_brought_up_to_date(opened, policy, checkpoints):
    server = WeightServer(checkpoints[0], 50)
    engine = opened(server)
    engine.sync_weights(moved(policy))
    server._restarted()
    assert written_with(engine.generate(PROMPTS, 2, SAMPLING)) == {round(total(policy), 3)}


@pytest.mark.parametrize(
    "where", ["collective_rpc", "pause", "start_weight_update", "update_weights", "finish_weight_update", "generate"]
)
@pytest.mark.parametrize("how", [500, "restart"])
def test_a_server_that_fails_while_it_takes_over_rests_and_the_other_writes(opened, policy, checkpoints, where, how):
    steady, failing = WeightServer(checkpoints[0], 50), WeightServer(checkpoints[0], 51)
    engine = opened(steady, failing)
    failing.breaks = {where: [how, how]}
    engine.sync_weights(moved(policy))
    groups = [engine.generate(PROMPTS, 2, SAMPLING.model_copy(update={"seed": seed})) for seed in range(3)]
    assert all(written_with(each) == {round(total(policy), 3)} for each in groups)
    assert failing.version in (engine.version, AT_START, f"not-{engine.version}")
    assert steady.version == engine.version


def test_an_update_that_says_it_is_done_and_has_changed_nothing_is_found(opened, policy, checkpoints, caplog):
    steady, lying = WeightServer(checkpoints[0], 50), WeightServer(checkpoints[0], 51, update_weights=["lenient"])
    engine = opened(steady, lying)
    engine.sync_weights(moved(policy))
    assert lying.url in caplog.text
    assert "same log-probabilities" in caplog.text
    assert written_with(engine.generate(PROMPTS, 2, SAMPLING)) == {round(total(policy), 3)}


def test_a_server_that_does_not_see_the_weights_is_left_as_it_is(opened, policy, checkpoints, caplog, monkeypatch):
    monkeypatch.setattr("pipeline.engines.handover.SHARED_DISK_S", 0)
    steady, elsewhere = WeightServer(checkpoints[0], 50), WeightServer(checkpoints[0], 51)
    engine = opened(steady, elsewhere)
    elsewhere.sees_folders = False
    engine.sync_weights(moved(policy))
    assert "nothing in " in caplog.text
    assert not any(path in ("pause", "update_weights") for path, _ in elsewhere.log)
    assert written_with(engine.generate(PROMPTS, 2, SAMPLING)) == {round(total(policy), 3)}


def test_an_update_that_no_server_carries_out_ends_the_run(opened, policy, checkpoints):
    server = WeightServer(checkpoints[0], 50, update_weights=["lenient"] * 9)
    engine = opened(server)
    with pytest.raises(ServerError, match="same log-probabilities") as error:
        engine.sync_weights(moved(policy))
    assert isinstance(error.value, LadderError)
    assert server.url in str(error.value)


def test_weights_that_are_what_they_were_need_not_move_anything(opened, policy, checkpoints):
    server = WeightServer(checkpoints[0], 50)
    engine = opened(server)
    engine.sync_weights(policy)  # as at a step whose learning rate is 0
    engine.sync_weights(policy)
    assert server.version == engine.version


def test_a_server_that_hangs_in_an_update_does_not_hold_up_the_others(opened, policy, checkpoints):
    steady, hanging = WeightServer(checkpoints[0], 50), WeightServer(checkpoints[0], 51)
    engine = opened(steady, hanging)
    hanging.breaks = {"update_weights": ["hang"]}
    engine.sync_weights(moved(policy))
    assert steady.version == engine.version
    hanging.stop()
    groups = engine.generate(PROMPTS, 2, SAMPLING)
    assert {c.token_ids[0] for group in groups for c in group} == {50}


def test_what_an_earlier_run_left_in_a_server_is_replaced_when_the_engine_opens(opened, policy, checkpoints):
    server = WeightServer(checkpoints[0], 50)
    opened(server).sync_weights(moved(policy))
    server.paused = server.updating = True  # it was killed in the middle of another update
    engine = opened(server)
    assert written_with(engine.generate(PROMPTS, 2, SAMPLING)) == {round(_sum(checkpoints[0]), 3)}
    assert not server.paused


def test_a_server_may_hold_another_checkpoint_of_the_same_architecture(opened, checkpoints, tmp_path):
    server = WeightServer(checkpoints[0], 50)
    engine = opened(server, at=checkpoints[1])
    assert written_with(engine.generate(PROMPTS, 2, SAMPLING)) == {round(_sum(checkpoints[1]), 3)}
    engine.load_weights(checkpoints[0])
    assert written_with(engine.generate(PROMPTS, 2, SAMPLING)) == {round(_sum(checkpoints[0]), 3)}
    other = tiny_checkpoint(tmp_path / "other", "llama")
    with pytest.raises(ServerError, match="wrong model's name"):
        opened(WeightServer(other, 51))


def test_an_answer_that_changes_weights_on_the_way_is_asked_for_again(opened, checkpoints):
    server = WeightServer(checkpoints[0], 50)
    engine = opened(server)
    good, times = server.completions, []

    def mixed(body):
        answer = good(body)
        times.append(1)
        for choice in answer["choices"] if len(times) == 1 else ():
            choice["weight_versions"] = [
                {"version": AT_START, "start": 0, "end": 1}, {"version": "other", "start": 1, "end": 3}
            ]  # fmt: skip
        return answer

    server.completions = mixed
    groups = engine.generate(PROMPTS[:1], 1, SAMPLING)
    assert [span for c in groups[0] for span in c.spans] == [(AT_START, 0, 3)]
    assert len(times) == 2


# ---- Folders --------------------------------------------------------------------------------------------------------


def weights(value: float = 1.0):
    yield from {"a": torch.full((3, 4), value), "b": torch.arange(5.0)}.items()


def test_versions_are_whole_named_once_and_the_last_two_are_kept(tmp_path):
    folders = WeightFolders(tmp_path)
    made = [folders.write(weights(value), torch.bfloat16) for value in (1.0, 2.0, 3.0)]
    assert [version.folder.is_dir() for version in made] == [False, True, True]
    assert len({version.name for version in made}) == 3
    check_whole(made[2])
    assert not list(folders.folder.glob(".*writing"))
    folders.close()
    assert not list(tmp_path.glob("*"))


def test_equal_weights_have_one_digest_in_whatever_order_and_precision(tmp_path):
    folders = WeightFolders(tmp_path)
    one = folders.write(weights(), torch.bfloat16)
    other = folders.write(iter(list(weights())[::-1]), torch.float32)
    assert one.digest == other.digest == folders.of_checkpoint(one.folder, torch.float32).digest
    assert folders.write(weights(1.0078125), torch.bfloat16).digest != one.digest
    folders.close()


@pytest.mark.parametrize("fault", ["cut", "gone", "changed"])
def test_a_version_that_is_not_whole_is_never_handed_over(tmp_path, fault):
    folders = WeightFolders(tmp_path)
    version = folders.write(weights(), torch.float32)
    (file,) = version.folder.glob("*.safetensors")
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    elif fault == "gone":
        file.unlink()
    else:
        other = folders.write(iter([("a", torch.zeros(2))]), torch.float32)
        next(iter(other.folder.glob("*"))).replace(file)
    with pytest.raises(RunError, match=str(version.folder)):
        check_whole(version)
    folders.close()


def test_what_a_killed_run_left_is_removed_and_a_living_run_keeps_its_own(tmp_path):
    living = WeightFolders(tmp_path)
    version = living.write(weights(), torch.float32)
    abandoned = tmp_path / f"{OWNER}of-a-run-that-is-gone"
    abandoned.mkdir()
    (abandoned / "lock").touch()
    WeightFolders(tmp_path).close()
    assert not abandoned.exists()
    check_whole(version)
    living.close()


def test_a_full_disk_names_the_folder(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    folders = WeightFolders(tmp_path)
    monkeypatch.setattr("pipeline.engines.weight_folders.save_file", full)
    with pytest.raises(RunError, match=r"weights_folder\) is full"):
        folders.write(weights(), torch.float32)
    folders.close()

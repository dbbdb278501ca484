"""Nothing that is loaded runs code by surprise, and nothing secret is kept or shown."""

import ast
import json
import logging
import pickle
import shutil
from pathlib import Path

import pytest

from data_recipes.pocket.bases import base_folder
from pipeline.cli import main
from pipeline.config.loading import load_profile
from pipeline.core.console import logged_to
from pipeline.core.errors import ConfigError, RunError
from pipeline.core.redaction import redact
from pipeline.models.sources import fetch_base
from pipeline.steps.context import StageResult

ROOT = Path(__file__).parents[2]
OURS = [path for folder in ("pipeline", "rewards", "data_recipes", "stages") for path in (ROOT / folder).rglob("*.py")]


class Evil:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "code was run"


@pytest.fixture
def checkpoint(tmp_path):
    shutil.copytree(base_folder("student-qwen"), tmp_path / "mine")
    return tmp_path / "mine"


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# Code and pickles


def test_code_that_a_model_brings_is_neither_run_nor_copied_nor_asked_for_later(checkpoint, tmp_path, mark):
    (checkpoint / "evil.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch()")
    edit(checkpoint / "config.json", auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    edit(checkpoint / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    fetch_base(f"folder:{checkpoint}", tmp_path / "out", "float32")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    AutoTokenizer.from_pretrained(tmp_path / "out")
    assert not mark.exists()
    assert not list((tmp_path / "out").glob("*.py"))
    assert "auto_map" not in "".join(path.read_text() for path in (tmp_path / "out").glob("*config.json"))


def test_a_model_that_needs_its_own_code_is_refused(checkpoint, tmp_path):
    edit(checkpoint / "config.json", model_type="made_up", auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(ConfigError, match="'made_up', which needs code that comes with the model"):
        fetch_base(f"folder:{checkpoint}", tmp_path / "out", "float32")


def pickled(checkpoint: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()


def test_a_pickled_base_is_converted_where_the_profile_asks_for_it_by_name(checkpoint, tmp_path):
    import torch
    from safetensors.torch import load_file

    whole = load_file(checkpoint / "model.safetensors")
    pickled(checkpoint)
    with pytest.raises(ConfigError, match="or name it as pickled:"):
        fetch_base(f"folder:{checkpoint}", tmp_path / "refused", "float32")
    fetch_base(f"pickled:{checkpoint}", tmp_path / "out", "float32")
    assert not list((tmp_path / "out").glob("*.bin"))
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_a_pickled_base_that_holds_code_is_refused_and_runs_none(checkpoint, tmp_path, mark):
    pickled(checkpoint)
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(ConfigError, match="holds more than weights"):
        fetch_base(f"pickled:{checkpoint}", tmp_path / "out", "float32")
    assert not mark.exists()


def test_a_pickled_reward_model_is_refused_and_not_opened(checkpoint, mark):
    from rewards import RewardError, load

    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(RewardError, match=r"no \.safetensors file"):
        load("reward_model", model=str(checkpoint))(prompts=["a"], completions=["b"])
    assert not mark.exists()


def test_an_engine_opens_no_pickle(checkpoint, mark):
    from pipeline.engines import EngineSettings
    from pipeline.engines.pool import EnginePool

    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(mark)))
    settings = EngineSettings(kind="transformers", max_model_len=64, dtype="float32")
    with pytest.raises(RunError, match="safetensors"):
        EnginePool(settings).serve(checkpoint, 0)
    assert not mark.exists()


def test_a_trainer_checkpoint_runs_no_code_when_it_is_resumed(tmp_path, mark, monkeypatch):
    """Optimizer, scheduler and random states are the files that torch reads with its restricted unpickler."""
    import torch

    seen, load = [], torch.load
    monkeypatch.setattr(
        torch, "load", lambda *a, **given: (seen.append(given.get("weights_only")), load(*a, **given))[1]
    )
    from transformers import AutoTokenizer

    from pipeline.config.sft import SFTSettings
    from pipeline.training.checkpoints import last_checkpoint
    from pipeline.training.sft import train_sft

    def train(stop_at: int | None):
        def on_step(step, *_):
            if step == stop_at:
                raise KeyboardInterrupt

        base = base_folder("student-qwen")
        return train_sft(
            model_path=base, tokenizer=AutoTokenizer.from_pretrained(base),
            prompts=["a", "b"], responses=["c", "d"], output=tmp_path, seed=1, device="cpu", dtype="float32",
            settings=SFTSettings(epochs=4, batch_size=1, rows_per_device=1, max_tokens=32, checkpoint_every=2),
            on_step=on_step, resume_from=last_checkpoint(tmp_path / "trainer"),
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        train(stop_at=3)
    assert train(stop_at=None).steps == 8
    assert len(seen) >= 3 and set(seen) == {True}
    torch.save({"state": Evil(mark)}, tmp_path / "evil.pt")
    with pytest.raises(pickle.UnpicklingError):
        load(tmp_path / "evil.pt", weights_only=True)
    assert not mark.exists()


UNPICKLING = {f"{package}.load" for package in ("pickle", "torch", "joblib", "dill", "numpy", "np")} | {"pickle.loads"}


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [(ast.unparse(node.func), node) for node in nodes if isinstance(node, ast.Call)]


def test_our_code_unpickles_only_what_its_own_workers_send_and_trusts_no_remote_code():
    unpickling, trusting = set(), []
    for path in OURS:
        for name, node in calls(path):
            if name in (
                "pickle.load",
                "pickle.loads",
                "joblib.load",
                "dill.load",
                "numpy.load",
                "np.load",
            ):
                unpickling.add(f"{path.relative_to(ROOT)}: {name}")
            if name == "torch.load":  # with `weights_only` it makes tensors and plain values alone
                only = [keyword.value for keyword in node.keywords if keyword.arg == "weights_only"]
                assert [ast.unparse(value) for value in only] == ["True"], f"{path}:{node.lineno}"
            for keyword in node.keywords:
                if keyword.arg == "trust_remote_code" and ast.unparse(keyword.value) != "False":
                    trusting.append(f"{path}:{node.lineno}")
    assert unpickling == {"rewards/grading/pool.py: pickle.loads", "rewards/grading/worker.py: pickle.loads"}
    assert trusting == []


# Secrets

CANARY = "hf_canaryCANARYcanaryCANARY0123456789"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        (f"stages.r1_zero.rewards.0.args={{api_key: {CANARY}}}", "stages.r1_zero.rewards.0.args.api_key"),
        ("stages.r1_zero.rewards.0.args={password: hunter2}", "stages.r1_zero.rewards.0.args.password"),
        (f"description={CANARY}", "description"),
        ("description=uses sk-abcdefghijklmnopqrstuv", "description"),
        ("description=it is value-of-my-variable", "description"),
        ("engine.server_urls=['http://me:hunter2@host:8000']", "engine.server_urls.0"),
        ("engine.server_urls=['https://host/v1?api_key=hunter2']", "engine.server_urls.0"),
        ("stages.cold_start_data.rewriter={kind: endpoint, url: 'http://u:hunter2@h', model: m}", "rewriter.url"),
    ],
)
def test_a_profile_with_a_secret_is_refused_without_showing_it(override, key, monkeypatch, capsys):
    monkeypatch.setenv("MY_API_KEY", "value-of-my-variable")
    assert main(["check", "--profile", "pocket", "--set", f'"{override}"']) == 2
    said = capsys.readouterr().err
    assert key in said and "environment variable" in said
    for secret in (CANARY, "hunter2", "sk-abc", "value-of-my-variable"):
        assert secret not in said


def test_names_of_variables_and_tokens_of_models_are_no_secrets():
    profile = load_profile(
        "pocket", ["stages.r1_zero.rewards.0.args={api_key_env: JUDGE_KEY, eos_token: '<|eos|>', max_tokens: 5}"]
    )
    assert profile.profile.stages.r1_zero.rewards[0].args["api_key_env"] == "JUDGE_KEY"


def test_secrets_of_the_environment_are_blotted_out(monkeypatch):
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "DB_PASSWORD", "AWS_SECRET"):
        monkeypatch.setenv(name, f"value-of-{name}")
        assert redact(f"refused value-of-{name}!") == f"refused [{name}]!"
    monkeypatch.setenv("SHORT_KEY", "1")
    assert redact("step 1 of 11") == "step 1 of 11"


def test_neither_log_nor_manifest_nor_error_of_a_stage_holds_a_secret(ladder, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)

    def leaks(ctx):
        ctx.log.info("the server said: wrong key %s", CANARY)
        logging.getLogger("httpx").warning("GET http://host?key=%s", CANARY)
        try:
            raise ValueError(CANARY)
        except ValueError:
            ctx.log.exception("failed")
        (ctx.folder / "out").write_text("x")
        return StageResult(outputs=["out"])

    ladder.bodies["base_model"] = leaks
    ladder.run("base_model")
    log = (ladder.folder.stage("base_model") / "log.txt").read_text()
    assert log.count("[OPENAI_API_KEY]") == 3
    for path in ladder.folder.path.rglob("*"):
        assert path.is_dir() or CANARY not in path.read_text(errors="replace"), path
    said = capsys.readouterr()
    assert CANARY not in said.out + said.err


def test_the_trace_of_a_defect_holds_no_secret(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", CANARY)

    def breaks(*_):
        raise RuntimeError(f"unexpected: {CANARY}")

    monkeypatch.setattr("pipeline.checks.profile.check_profile", breaks)
    assert main(["check"]) == 1
    said = capsys.readouterr().err
    assert "RuntimeError" in said and CANARY not in said


def test_a_refused_key_is_not_repeated(monkeypatch, tmp_path, caplog):
    """A server may quote the key that it refuses."""
    from data_recipes.written.endpoint import Endpoint
    from pipeline.config.data import Asking
    from pipeline.core.chat import ChatRequest
    from tests.pipeline.engines.fake_server import FakeServer

    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    server = FakeServer(0, (401, json.dumps({"error": {"message": f"your key {CANARY} is wrong"}})))
    with logged_to(tmp_path / "log.txt"), pytest.raises(ConfigError, match="OPENAI_API_KEY") as error:
        Endpoint(f"{server.url}/v1", "m", Asking()).reply(ChatRequest((("user", "u"),), 0.0, 5))
    assert server.keys == [f"Bearer {CANARY}"]
    assert CANARY in str(error.value), "else nothing is tested"
    assert CANARY not in redact(str(error.value)) and CANARY not in (tmp_path / "log.txt").read_text()

"""The loss as a function of tensors: each variant by hand, micro-batches that add up, and a user's own."""

import ast
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from trl import GRPOTrainer

from pipeline.checks.profile import check_profile
from pipeline.config.grpo import GRPOSettings
from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError
from pipeline.training.grpo.loss import AVERAGES, POLICY_TERMS, BatchSize, LossInputs, kl_estimate, policy_loss
from pipeline.training.grpo.trainer import TAKEN_FROM_TRL
from pipeline.training.own_loss import find_loss
from tests.pipeline.engines.tiny import tiny_checkpoint
from tests.pipeline.training.grpo.cases import GROUP_SIZE, GROUPS, LIMIT, make_trainer, one_step, written

ROWS, TOKENS = 6, 5


def inputs(seed: int = 0, **changes) -> LossInputs:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([5, 1, 3, 4, 2, 5])
    logprobs = -torch.rand((ROWS, TOKENS), generator=draw) * 3
    given = {
        "logprobs": logprobs.requires_grad_(),
        "advantages": torch.randn(ROWS, generator=draw),
        "mask": (torch.arange(TOKENS) < lengths[:, None]).float(),
        "old": logprobs.detach() + 0.5 * torch.randn((ROWS, TOKENS), generator=draw),
        "reference": logprobs.detach() + 0.3 * torch.randn((ROWS, TOKENS), generator=draw),
    }
    return LossInputs(**(given | changes))


def settings(**changes) -> GRPOSettings:
    needed = {"cispo": {"epsilon_high": 1.5}, "luspo": {"importance_sampling_level": "sequence"}}
    return GRPOSettings(**({"beta": 0.0} | needed.get(changes.get("loss_type"), {}) | changes))


def test_three_tensors_are_enough():
    """On-policy every ratio is 1, so the loss is minus the mean advantage, each completion weighing the same."""
    given = inputs(old=None, reference=None)
    loss, figures = policy_loss(given, settings())
    assert loss.item() == pytest.approx(-given.advantages.mean().item(), rel=1e-5)
    assert all(value.item() == 0 for name, value in figures.items() if name.startswith("clip_ratio"))


def by_hand(given: LossInputs, term) -> list[list[float]]:
    """`term(ratio, advantage, logprob)` of each token that counts, a list a row."""
    return [
        [
            term((given.logprobs[r, t] - given.old[r, t]).exp().item(), given.advantages[r].item(),
                 given.logprobs[r, t].item())
            for t in range(TOKENS) if given.mask[r, t]
        ]
        for r in range(ROWS)
    ]  # fmt: skip


def clipped(ratio: float, advantage: float, _: float) -> float:
    return -min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)


@pytest.mark.parametrize(
    ("loss_type", "mean"),
    [
        ("grpo", lambda rows: sum(sum(row) / len(row) for row in rows) / ROWS),
        ("dr_grpo", lambda rows: sum(map(sum, rows)) / (ROWS * TOKENS)),
        ("dapo", lambda rows: sum(map(sum, rows)) / sum(map(len, rows))),
        ("bnpo", lambda rows: sum(map(sum, rows)) / sum(map(len, rows))),
    ],
)
def test_clipped_losses_by_hand(loss_type, mean):
    given = inputs()
    loss, _ = policy_loss(given, settings(loss_type=loss_type))
    assert loss.item() == pytest.approx(mean(by_hand(given, clipped)), rel=1e-5)


def test_cispo_by_hand():
    given = inputs()
    loss, figures = policy_loss(given, settings(loss_type="cispo"))
    rows = by_hand(given, lambda ratio, advantage, logprob: -min(ratio, 1.5) * advantage * logprob)
    assert loss.item() == pytest.approx(sum(map(sum, rows)) / sum(map(len, rows)), rel=1e-5)
    assert 0 < figures["cispo_clip_ratio"].item() < 1


def test_gspo_by_hand():
    """One ratio a completion: the geometric mean of its tokens'."""
    given, expected = inputs(), 0.0
    for r in range(ROWS):
        counted = given.mask[r].bool()
        ratio = (given.logprobs[r] - given.old[r])[counted].mean().exp().item()
        expected += clipped(ratio, given.advantages[r].item(), 0.0) / ROWS
    loss, _ = policy_loss(given, settings(importance_sampling_level="sequence"))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("estimator", "value"), [("k1", -0.5), ("k2", 0.125), ("k3", 0.14872127)])
def test_kl_estimators(estimator, value):
    assert kl_estimate(torch.tensor([-1.0]), torch.tensor([-0.5]), estimator).item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("loss_type", POLICY_TERMS)
def test_micro_batches_add_up_to_the_batch(loss_type):
    """However the rows are cut, losses and gradients of the parts sum to those of the whole."""
    chosen = settings(loss_type=loss_type, beta=0.1, kl_estimator="k3")
    whole = inputs()
    size = BatchSize(ROWS, whole.mask.sum().item(), whole.mask.sum().item(), TOKENS)
    policy_loss(whole, chosen, size)[0].backward()
    for cuts in ([1, 5], [2, 2, 2], [4, 1, 1]):
        parts, total = inputs(), 0.0
        names = ("logprobs", "advantages", "mask", "old", "reference")
        for piece in zip(*(getattr(parts, name).split(cuts) for name in names), strict=True):
            loss, _ = policy_loss(LossInputs(**dict(zip(names, piece, strict=True))), chosen, size)
            total += loss.item()
            loss.backward()
        assert total == pytest.approx(policy_loss(whole, chosen, size)[0].item(), rel=1e-5)
        assert torch.allclose(parts.logprobs.grad, whole.logprobs.grad, atol=1e-7)


@pytest.mark.parametrize("loss_type", POLICY_TERMS)
def test_what_is_masked_moves_nothing(loss_type):
    given = inputs()
    policy_loss(given, settings(loss_type=loss_type, beta=0.1))[0].backward()
    assert given.logprobs.grad[given.mask == 0].abs().max() == 0


def test_every_loss_type_has_a_term_and_an_average():
    assert POLICY_TERMS.keys() == AVERAGES.keys() == set(GRPOSettings.model_fields["loss_type"].annotation.__args__)


def test_a_reference_is_asked_for_where_it_is_needed():
    with pytest.raises(ValueError, match="beta"):
        policy_loss(inputs(reference=None), settings(beta=0.1))


# ---- A loss of the user's own ---------------------------------------------------------------------------------------

OWN = """
def mine(inputs, ratio, settings):
    return -ratio * inputs.advantages.unsqueeze(1), {"mine": ratio}

def scalar(inputs, ratio, settings):
    return ratio.mean(), {}

def two(inputs, ratio):
    return ratio, {}

number = 3
"""


@pytest.fixture
def own(tmp_path) -> str:
    path = tmp_path / "my_loss.py"
    path.write_text(OWN)
    return str(path)


def test_a_loss_of_ones_own_trains(own, tmp_path):
    model = str(tiny_checkpoint(tmp_path / "model", "qwen3"))
    chosen = GRPOSettings(
        prompts_per_step=GROUPS, group_size=GROUP_SIZE, rollout_prompts=None, max_steps=1, beta=0.0,
        max_completion_tokens=LIMIT, max_completion_schedule=[], learning_rate=0.1, loss=f"{own}:mine",
    )  # fmt: skip
    records = []
    trainer = make_trainer("ours", model, tmp_path / "own", written(), chosen, optim="sgd")
    trainer._on_step = records.append
    ours = one_step(trainer)
    stock = one_step(make_trainer("stock", model, tmp_path / "stock", written(), chosen, optim="sgd"))
    assert records[0]["mine"] == pytest.approx(1.0)
    for name, expected in stock["gradients"].items():  # on-policy, a ratio of 1 is never clipped
        assert torch.allclose(ours["gradients"][name], expected, atol=1e-6), name


def test_a_loss_of_the_wrong_shape_is_named(own):
    with pytest.raises(ValueError, match=r"one value a token, \(6, 5\)"):
        policy_loss(inputs(), settings(), term=find_loss(f"{own}:scalar"))


@pytest.mark.parametrize(
    ("name", "said"), [("nothing", "defines no 'nothing'"), ("two", "it is called with"), ("number", "is a int")]
)
def test_check_refuses_a_loss_that_cannot_be_called(own, name, said):
    profile = load_profile("smoke", [f"stages.r1_zero.grpo.loss={own}:{name}"]).profile
    with pytest.raises(ConfigError, match=r"stages\.r1_zero: grpo\.loss") as error:
        check_profile(profile)
    assert said in str(error.value)


def test_settings_without_a_loss_of_ones_own_are_stored_as_before():
    """So that stages made before the key existed stay done."""
    assert "loss" not in GRPOSettings().model_dump(mode="json")
    assert "loss" in GRPOSettings(loss="a.py:b").model_dump(mode="json")


# ---- TRL's insides --------------------------------------------------------------------------------------------------


def test_members_taken_from_trl_are_there(tmp_path):
    model = str(tiny_checkpoint(tmp_path / "model", "qwen3"))
    chosen = settings(prompts_per_step=GROUPS, group_size=GROUP_SIZE, rollout_prompts=None, max_steps=1)
    stock = make_trainer("stock", model, tmp_path, written(), chosen.model_copy(update={"sampler_correction": None}))
    missing = [name for name in TAKEN_FROM_TRL if not hasattr(stock, name)]
    assert not missing, f"TRL {version('trl')} has no longer {missing}"
    used = _protected_members(Path("pipeline/training/grpo"))
    assert sorted(name for name in used if hasattr(GRPOTrainer, name) or name in vars(stock)) == sorted(TAKEN_FROM_TRL)


def _protected_members(folder: Path) -> set[str]:
    """Names with one underscore that the code takes of a trainer, or that the trainer's class overrides."""
    found = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and _is_trainer(node.value, path.stem == "trainer"):
                found.add(node.attr)
            elif path.stem == "trainer" and isinstance(node, ast.FunctionDef):
                found.add(node.name)
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def _is_trainer(node: ast.AST, in_trainer: bool) -> bool:
    if isinstance(node, ast.Name):
        return node.id == "trainer" or (in_trainer and node.id == "self")
    if isinstance(node, ast.Attribute):
        return node.attr in ("_trainer", "trainer")
    return in_trainer and isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"

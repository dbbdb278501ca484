"""On-policy distillation: what the teacher adds to the loss is TRL's, a stopped run goes on, another tokenizer is no
teacher's."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DistillationConfig, DistillationTrainer
from trl.experimental.iw_opd import IWOPDConfig, IWOPDTrainer

from pipeline.core.errors import ConfigError
from pipeline.training.grpo.loss import LossInputs, clipped_term, importance_ratio, with_teacher
from pipeline.training.teacher import Teaching, check_same_tokens
from tests.pipeline.engines.tiny import tiny_checkpoint
from tests.pipeline.training.grpo.cases import GROUPS, ONE_STEP, make_trainer, one_step, written
from tests.pipeline.training.grpo.runs import Stop, metrics, run, settings, weights_of

END = 1


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    """(student, teacher): one shape, other weights."""
    folder = tmp_path_factory.mktemp("models")
    student, teacher = tiny_checkpoint(folder / "student", "qwen3"), tiny_checkpoint(folder / "teacher", "qwen3")
    model, generator = AutoModelForCausalLM.from_pretrained(teacher), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(teacher)
    return str(student), str(teacher)


def trl_step(student: str, teacher: str, cases: dict, folder: Path) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of TRL's trainer for sampled tokens, without its importance weights, on all of `cases`."""
    tokenizer = AutoTokenizer.from_pretrained(student)
    rows = [(tokenizer(prompt)["input_ids"], ids) for prompt, case in cases.items() for ids in case["ids"]]
    before, after = max(len(prompt) for prompt, _ in rows), max(len(ids) for _, ids in rows)
    inputs = {"input_ids": [], "attention_mask": [], "labels": []}
    for prompt, ids in rows:
        left, right = before - len(prompt), after - len(ids)
        inputs["input_ids"].append([0] * left + prompt + ids + [0] * right)
        inputs["attention_mask"].append([0] * left + [1] * (len(prompt) + len(ids)) + [0] * right)
        inputs["labels"].append([-100] * before + ids + [-100] * right)
    batch = {name: torch.tensor(values) for name, values in inputs.items()}
    batch["prompts"] = batch["input_ids"][:, :before]
    batch["prompt_attention_mask"] = batch["attention_mask"][:, :before]
    trainer = IWOPDTrainer(
        model=AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32),
        teacher_model=AutoModelForCausalLM.from_pretrained(teacher, dtype=torch.float32),
        args=IWOPDConfig(
            output_dir=str(folder), distillation_objective="iw_opd", iw_opd_gamma=0.0, use_cpu=True, bf16=False,
            report_to=[], temperature=1.0,
        ),
        train_dataset=Dataset.from_list([{"messages": [{"role": "user", "content": "a"}]}]),
        processing_class=tokenizer,
    )  # fmt: skip
    model = trainer.model.train()
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss_type", ["cispo", "dapo"])
def test_a_step_without_rewards_is_that_of_trl(models, tmp_path, loss_type):
    """Tokens weigh the same. CISPO's surrogate is TRL's own; PPO's has its gradient, and the KL itself as its value."""
    student, teacher = models
    cases = written(flat_groups=GROUPS)
    chosen = {**ONE_STEP, "loss_type": loss_type, "epsilon_high": 5.0, "sampler_correction": None}
    chosen |= {"group_size": 4, "max_grad_norm": 1e9, "learning_rate": 1e-3}
    trainer = make_trainer(
        "ours", student, tmp_path / "ours", cases, settings(**chosen), optim="sgd", teacher=Teaching(Path(teacher))
    )
    seen = []
    original = trainer._on_step
    trainer._on_step = seen.append
    ours = one_step(trainer)
    assert original is None
    loss, gradients = trl_step(student, teacher, cases, tmp_path / "trl")
    assert ours["loss"][0] == pytest.approx(loss if loss_type == "cispo" else seen[0]["teacher_kl"], rel=1e-4)
    assert gradients.keys() == ours["gradients"].keys()
    for name, expected in gradients.items():
        assert (ours["gradients"][name] - expected).norm() <= 1e-4 * expected.norm() + 1e-8, name


def test_over_all_tokens_it_is_the_reverse_kl_that_trl_distils_by(models, tmp_path):
    """What a sample estimates: the mean over the whole vocabulary, by the student's own probabilities."""
    student, teacher = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in models)
    tokenizer = AutoTokenizer.from_pretrained(models[0])
    prompt = torch.tensor([tokenizer("abc")["input_ids"]])
    trainer = DistillationTrainer(
        model=student,
        teacher_model=teacher,
        args=DistillationConfig(output_dir=str(tmp_path), beta=1.0, use_cpu=True, bf16=False, report_to=[]),
        train_dataset=Dataset.from_list([{"prompt": "abc"}]),
        processing_class=tokenizer,
    )
    one = torch.ones(1, 1, dtype=torch.long)
    inputs = {"prompt_ids": prompt, "prompt_mask": torch.ones_like(prompt), "completion_ids": one}
    theirs, _, _ = trainer._compute_loss(student, {**inputs, "completion_mask": one}, None)
    expected = torch.autograd.grad(theirs, [p for p in student.parameters() if p.requires_grad])

    ours, other = (log_softmax(model(prompt).logits[0, -1], dim=-1)[:, None] for model in (student, teacher))
    given = LossInputs(ours, torch.zeros(len(ours)), torch.ones_like(ours), teacher=other.detach())
    given, kl = with_teacher(given)
    term, _ = clipped_term(given, importance_ratio(given, "token"), settings())
    probabilities = ours.detach().exp()
    assert (probabilities * kl).sum().item() == pytest.approx(theirs.item(), rel=1e-4)
    found = torch.autograd.grad((probabilities * term).sum(), [p for p in student.parameters() if p.requires_grad])
    for mine, want in zip(found, expected, strict=True):
        assert (mine - want).norm() <= 1e-3 * want.norm() + 1e-8


def test_a_stopped_run_goes_on_as_if_it_had_not(start, engine, tmp_path, models):
    teaching = Teaching(Path(start), weight=0.5)
    more = {"weights": [0.0], "teacher": teaching}
    chosen = settings(loss_type="dapo", learning_rate=0.05)

    def stop(record):
        if record["step"] == 3:
            raise Stop

    run(start, engine, tmp_path / "whole", chosen, **more)
    with pytest.raises(Stop):
        run(start, engine, tmp_path / "broken", chosen, log=stop, **more)
    run(start, engine, tmp_path / "broken", chosen, resume=True, **more)
    assert metrics(tmp_path / "whole")[0]["teacher_kl"] == pytest.approx(0, abs=1e-4)
    expected = weights_of(tmp_path / "whole" / "checkpoint")
    for name, weight in weights_of(tmp_path / "broken" / "checkpoint").items():
        assert torch.equal(weight, expected[name]), name


def test_a_teacher_with_another_tokenizer_is_refused(models, tmp_path):
    student, _ = models
    check_same_tokens(Path(student), Path(models[1]))
    other = tmp_path / "other"
    AutoTokenizer.from_pretrained(student).save_pretrained(other)
    text = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = text["model"]["vocab"]
    first, second, *_ = [word for word in vocabulary if word.isalpha()]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(text), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tokenizers differ in 2 tokens, of .* Distil by SFT"):
        check_same_tokens(Path(student), other)

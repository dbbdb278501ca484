"""lm-evaluation-harness on a real checkpoint, with a task file of our own and no network."""

import json
import sys

import pytest
import torch

from data_recipes.pocket.bases import base_folder
from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError
from pipeline.core.tokens import load_tokenizer
from pipeline.runs.folder import RunFolder
from pipeline.tools.lm_eval import run_harness

TASK = """
task: our_sums
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["</answer>"], max_gen_toks: 16, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return RunFolder("mine", "smoke")


def test_a_task_file_gives_figures_samples_and_settings(run, tmp_path, capsys):
    (tmp_path / "sums.jsonl").write_text(
        "".join(json.dumps({"question": f"{n}+1?", "answer": "1"}) + "\n" for n in range(3))
    )
    task = tmp_path / "sums.yaml"
    task.write_text(TASK.format(data=tmp_path / "sums.jsonl"))
    model = str(base_folder("student-qwen"))
    path = run_harness(load_profile("smoke").profile, run, model, [str(task)], limit=2, batch_size=2)
    found = json.loads(path.read_text())
    assert 0 <= found["results"]["our_sums"]["exact_match,none"] <= 1
    assert [sample["arguments"][0][0] for sample in found["samples"]["our_sums"]] == [
        "User: 0+1? Assistant:",
        "User: 1+1? Assistant:",
    ]
    assert found["settings"]["limit"] == 2 and found["settings"]["chat_template"] is True
    said = capsys.readouterr().out
    assert "our_sums" in said and "exact_match" in said and "limit 2" in said


BARE_TASK = TASK.replace('generation_kwargs: {{until: ["</answer>"], max_gen_toks: 16, do_sample: false}}\n', "")


@pytest.mark.parametrize("task_text", [BARE_TASK, TASK], ids=["no stop and no length", "a stop and a short length"])
def test_a_model_that_reasons_is_cut_neither_at_a_blank_line_nor_at_the_tasks_length(
    run, tmp_path, monkeypatch, caplog, task_text
):
    """The model is scripted: it reasons over blank lines for longer than the task's length, then answers."""
    from lm_eval.models.huggingface import HFLM

    tokenizer = load_tokenizer(base_folder("student-qwen"))
    said = tokenizer("<think>so\n\n" + "</answer> 2 + 2 " * 15 + "</think>\n\n7<|eos|>")["input_ids"]
    lengths = []

    def write(self, context, max_length, stop, **_):
        lengths.append(max_length - context.shape[1])
        assert stop == ["<|eos|>"]
        cut = said[: lengths[-1]]
        return torch.cat([context, torch.tensor([cut] * len(context))], dim=1)

    monkeypatch.setattr(HFLM, "_model_generate", write)
    (tmp_path / "sums.jsonl").write_text(json.dumps({"question": "3+4?", "answer": "7"}) + "\n")
    task = tmp_path / "sums.yaml"
    task.write_text(task_text.format(data=tmp_path / "sums.jsonl"))
    profile = load_profile("smoke", overrides=["stages.evaluate.sampling.max_tokens=200"]).profile
    path = run_harness(profile, run, str(base_folder("student-qwen")), [str(task)], None, 1)
    assert json.loads(path.read_text())["results"]["our_sums"]["exact_match,none"] == 1.0
    if task_text is BARE_TASK:
        assert lengths == [256]  # the harness's own, where a task says nothing
        return
    assert lengths == [200]
    profile = load_profile("smoke", overrides=["stages.evaluate.sampling.max_tokens=20"]).profile
    run_harness(profile, run, str(base_folder("student-qwen")), [str(task)], None, 1)
    assert "1 of 1 answers were cut" in caplog.text


def test_a_task_whose_package_is_not_here_says_so(run, tmp_path):
    (tmp_path / "needs.py").write_text("import a_package_that_nobody_has\n\n\ndef text(doc):\n    return 'x'\n")
    (tmp_path / "sums.jsonl").write_text(json.dumps({"question": "3+4?", "answer": "7"}) + "\n")
    task = tmp_path / "sums.yaml"
    lines = TASK.format(data=tmp_path / "sums.jsonl").replace(
        'doc_to_text: "{{question}}"', "doc_to_text: !function needs.text"
    )
    task.write_text(lines)
    with pytest.raises(ConfigError, match="a_package_that_nobody_has"):
        run_harness(load_profile("smoke").profile, run, str(base_folder("student-qwen")), [str(task)], 1, 1)


@pytest.mark.parametrize(
    ("tasks", "part"), [([], "TASKS is empty"), (["no_such_task"], "no_such_task"), (["a.yaml"], "a.yaml")]
)
def test_a_task_that_is_not_there_is_named(run, tasks, part):
    with pytest.raises(ConfigError, match=part):
        run_harness(load_profile("smoke").profile, run, str(base_folder("student-qwen")), tasks, None, 1)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("task: [", "not valid YAML"),
        ("output_type: generate_until", "names no task"),
        (TASK.format(data="/nowhere.jsonl"), "not there"),
    ],
)
def test_a_task_file_that_cannot_be_used_says_why(run, tmp_path, text, part):
    task = tmp_path / "a.yaml"
    task.write_text(text)
    with pytest.raises(ConfigError, match=part):
        run_harness(load_profile("smoke").profile, run, str(base_folder("student-qwen")), [str(task)], 1, 1)


def test_without_the_package_the_command_that_installs_it_is_given(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError, match=r"pip install -c requirements/constraints\.txt -r requirements/lm-eval\.txt"):
        run_harness(load_profile("smoke").profile, run, str(base_folder("student-qwen")), ["gsm8k"], None, 1)

"""lm-evaluation-harness on a real checkpoint, with a task file of our own and no network."""

import json
import sys

import pytest

from data_recipes.pocket.bases import base_folder
from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError
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

"""lm-evaluation-harness on a checkpoint of a run.

    make lm-eval MODEL=distill/qwen TASKS="gsm8k arc_easy"
    make lm-eval MODEL=r1-zero TASKS=tasks/ours.yaml LIMIT=50

Tasks are the harness's own, by name (fetched from the Hub by it), or YAML files in its format. Figures, settings and
samples go to `runs/<run>/lm_eval/`. They are the harness's figures, by its prompts and its rules for right answers:
those of `evaluate` are another measurement.
"""

import json
import time
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from pipeline.config.profile import Profile
from pipeline.core.errors import ConfigError, first_line
from pipeline.core.files import write_durably
from pipeline.core.tables import print_table
from pipeline.ladder import BASE
from pipeline.runs.checkpoints import checkpoint_of, full_name, is_chat_model, load_tokenizer, stage_and_student
from pipeline.runs.folder import RunFolder
from pipeline.runs.runner import resolve_device

INSTALL = ".venv/bin/python -m pip install -c requirements/constraints.txt -r requirements/lm-eval.txt"


def run_harness(
    profile: Profile, run: RunFolder, model: str, tasks: list[str], limit: int | None, batch_size: int
) -> Path:
    """Runs the tasks, prints their table and returns the file with the figures.

    Models that learned a chat template are asked through it, and all but bare bases get room to reason
    (`harness_model`). Raises ConfigError where a package is missing, no task is named, a task is unknown, or a task
    file cannot be used.
    """
    model = full_name(profile, model)
    checkpoint = checkpoint_of(run, model)
    if not tasks:
        raise ConfigError("TASKS is empty. Name tasks of lm-evaluation-harness, or YAML files of yours: TASKS='gsm8k'.")
    try:
        import lm_eval
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError(f"lm-evaluation-harness is not installed ({error}). Install it: {INSTALL}") from error
    by_name = [task for task in tasks if not task.endswith(".yaml")]
    manager = TaskManager(include_defaults=bool(by_name))  # its index of a thousand tasks takes seconds to read
    chosen = [_checked(task, manager) for task in tasks]
    chat = is_chat_model(model)
    load_tokenizer(checkpoint, chat)
    device = resolve_device(profile)
    reasons = stage_and_student(model)[0] != BASE.id
    length = profile.stages.evaluate.sampling.max_tokens if reasons else None
    settings = {
        "model": model, "checkpoint": str(checkpoint), "tasks": tasks, "limit": limit, "chat_template": chat,
        "device": device, "dtype": profile.dtype, "batch_size": batch_size, "longest_answer": length,
        "lm_eval": lm_eval.__version__,
    }  # fmt: skip
    try:
        found = lm_eval.simple_evaluate(
            model=_model(checkpoint, length, dtype=profile.dtype, device=device, batch_size=batch_size),
            tasks=chosen,
            task_manager=manager,
            batch_size=batch_size,
            limit=limit,
            apply_chat_template=chat,
        )
    except FileNotFoundError as error:
        named = " ".join(tasks)
        raise ConfigError(f"TASKS: a file that {named} needs is not there: {error}. Check its data_files.") from error
    except ImportError as error:
        raise ConfigError(
            f"TASKS: {' '.join(tasks)} needs a Python package that is not here, or not in the version that it asks "
            f"for: {first_line(error)}. Choose another task, or install it if the pins of requirements/ allow it."
        ) from error
    print_table(results_table(found["results"], model), 3)
    print(", ".join(f"{key} {value}" for key, value in settings.items()))
    return _write(run, model, {"settings": settings, "results": found["results"], "samples": found["samples"]})


def _model(checkpoint: Path, length: int | None, **options):
    """The checkpoint as the harness's model; `length` is the longest answer of one that reasons."""
    from lm_eval.models.huggingface import HFLM

    from pipeline.tools.harness_model import ReasoningModel

    if length is None:
        return HFLM(pretrained=str(checkpoint), tokenizer=load_tokenizer(checkpoint, chat=False), **options)
    return ReasoningModel(checkpoint, length, **options)


def _checked(task: str, manager: Any) -> str:
    """A task as the harness takes it: a name that it knows, or the path of a YAML file."""
    if task.endswith(".yaml"):
        if not Path(task).is_file():
            raise ConfigError(
                f"TASKS: there is no file {task}. Check the path, which counts from the folder you run in."
            )
        try:
            root = yaml.compose(Path(task).read_text(encoding="utf-8"))  # composed only: !function stays a tag
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"TASKS: {task} is not valid YAML: {error}") from None
        keys = {key.value for key, _ in root.value} if isinstance(root, yaml.MappingNode) else set()
        if not keys & {"task", "group", "include"}:
            raise ConfigError(f"TASKS: {task} names no task. Expected a task file of the harness, with `task: NAME`.")
        return str(Path(task).resolve())
    if not manager.match_tasks([task]):
        raise ConfigError(f"TASKS: lm-evaluation-harness has no task '{task}', and it is no .yaml file.")
    return task


def results_table(results: dict[str, dict[str, Any]], model: str) -> Table:
    """The harness keys a figure by `metric,filter`, and its standard error by `metric_stderr,filter`."""
    table = Table("task", "metric", "filter", "value", "± standard error", title=model, title_justify="left")
    for task, figures in results.items():
        for key, value in figures.items():
            metric, comma, kept = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            error = figures.get(f"{metric}_stderr,{kept}")
            table.add_row(task, metric, kept, str(value), "–" if error is None else str(error))
    return table


def _write(run: RunFolder, model: str, found: dict[str, Any]) -> Path:
    folder = run.path / "lm_eval"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.strip('/').replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    write_durably(path, json.dumps(found, indent=1, default=str, ensure_ascii=False) + "\n")
    return path

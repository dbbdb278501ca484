"""Making questions of reasoning-gym tasks, in a worker process with one seed for the hashes of strings.

Some tasks draw from sets of strings, whose order depends on that seed: without it two processes make other questions of
the same seed, and a resumed run would be judged by other gold answers.
"""

from typing import Any

from pipeline.core.errors import ConfigError
from rewards.grading import pool
from rewards.grading.verifiers import Job

DEADLINE_S = 900.0


def entries_of(task: str, size: int, seed: int, args: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of a task. Raises ConfigError with what the task says to its arguments."""
    payload = {"task": task, "size": size, "seed": seed, "args": args}
    [outcome] = pool.shared().run([Job("data_recipes.sources.gym_rows:make", payload, DEADLINE_S)])
    if outcome.failure:
        raise ConfigError(
            f"'reasoning_gym:{task}' with {args}: {outcome.failure.partition(': ')[2] or outcome.failure}"
        )
    return outcome.value


def make(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries, the task's arguments kept in their metadata for the scorer; for a worker process only."""
    import reasoning_gym as gym

    task, args = payload["task"], payload["args"]
    entries = list(gym.create_dataset(task, size=payload["size"], seed=payload["seed"], **task_args(task, args)))
    for entry in entries:
        if args and task != "composite":
            entry["metadata"] = {**entry["metadata"], "task_args": args}
    return entries


def task_args(task: str, args: dict[str, Any]) -> dict[str, Any]:
    """The task's arguments as the package wants them: `composite` takes its tasks as objects."""
    if task != "composite" or not isinstance(args.get("datasets"), list):
        return args
    from reasoning_gym.composite import DatasetSpec

    return {**args, "datasets": [DatasetSpec(**{"weight": 1.0, "config": {}, **spec}) for spec in args["datasets"]]}

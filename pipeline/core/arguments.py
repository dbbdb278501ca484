"""What the command line takes: each command with its arguments and options."""

import argparse
from collections.abc import Callable, Mapping

DEFAULT_PROFILE = "pocket"


def parser(commands: Mapping[str, Callable]) -> argparse.ArgumentParser:
    """The parser of the whole command line; `command` of what it reads is the function that `commands` has."""
    whole = argparse.ArgumentParser(prog="python -m pipeline", description="R1 Ladder: the DeepSeek-R1 recipe, staged")
    subparsers = whole.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, description: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=description, description=description)
        sub.set_defaults(command=commands[name])
        return sub

    new = command("new", "write a profile for models, data, rewards and hardware of your own")
    new.add_argument("name", nargs="?", default="", help="of the profile, which becomes configs/NAME.yaml")
    new.add_argument("--base", default="", help="folder, .gguf file, OWNER/NAME on the Hub, or 'pocket'")
    _add_words(new, "--students", "'NAME=MODEL …'", "models to distil into")
    _add_words(new, "--data", "'FILE …'", "questions to train on: files, OWNER/NAME, tasks")
    new.add_argument("--exam", default="", metavar="FILE", help="questions to measure on (default: some of the data)")
    new.add_argument("--reward", default="", help="a reward of your own, FILE.py:NAME")
    new.add_argument("--hardware", default="", help="cpu, 24, 8x80 or 4xh100 (default: this machine)")
    new.add_argument("--like", default="", metavar="PROFILE", help="profile to take sizes from (default: the nearest)")
    run = command("run", "run a stage, and those before it that are missing or stale")
    run.add_argument("stage", help="a stage id, or 'all'")
    run.add_argument("--processes", type=int, default=1, help="to start on this machine, one a GPU (default: 1)")
    run.add_argument("--budget", default="", metavar="TIME", help="size 'all' to end in 2h, 90m or 1h30m")
    profiled(run)
    status = command("status", "show each stage's state: done, stale, partial or missing")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    profiled(status)
    check = command("check", "check a profile before anything runs, and show its arithmetic")
    check.add_argument("--json", action="store_true", help="print it as JSON, without trying rewards in a table")
    check.add_argument("--processes", type=int, help="that are to run it (default: as many as the GPUs it is made for)")
    profiled(check)
    plan = command("plan", "say what a profile takes on so many GPUs, or set a run beside what its rates predict")
    plan.add_argument("run", nargs="?", default="", help="name of a run folder whose rates are fitted (default: none)")
    plan.add_argument("--profile", help="profile to plan (default: the run's, or pocket)")
    _add_words(plan, "--set", "'KEY=VALUE …'", "overrides, such as parallel.shard=fsdp2")
    plan.add_argument("--seed", type=int, help="replaces the profile's seed")
    plan.add_argument("--gpus", type=int, help="how many (default: as many as the profile is made for)")
    plan.add_argument("--gpu", help="kind, such as h100 (default), a100, h200, l40s")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    check_reward = command("check-reward", "try one reward on sample rows")
    check_reward.add_argument("reward", help="a built-in name, FILE.py:NAME or PACKAGE.MODULE:NAME")
    check_reward.add_argument("--rows", help="a JSON lines file with `completion` and the question's columns")
    _add_words(check_reward, "--args", "'KEY=VALUE …'", "arguments of the reward")
    claims = command("claims", "run the ladder with several seeds and report which of the paper's effects hold")
    _add_words(claims, "--seeds", "'SEED …'", "seeds to run (default: '0 1 2', or only SEED)", default=None)
    profiled(claims)
    report = command("report", "write the report of what is finished, without training")
    _add_words(report, "--with", "'RUN …'", "runs to draw curves of, too", dest="overlaid")
    profiled(report)
    compare = command("compare", "compare finished runs: configurations, results, curves")
    compare.add_argument("runs", help="names of two or more run folders, blanks between them")
    verify = command("verify", "hash every file of a run's finished stages again and say what does not match")
    verify.add_argument("run", nargs="?", default="", help="name of a run folder (default: the profile's)")
    verify.add_argument("--profile", help="profile to hold the configurations against (default: the run's own)")
    _add_words(verify, "--set", "'KEY=VALUE …'", "overrides that the run was made with")
    verify.add_argument("--seed", type=int, help="the run's seed, where it is not the profile's")
    explain = command("explain", "print what made a stage or a file of it, back to the base model")
    explain.add_argument("run", help="name of a run folder; '' is the profile's")
    explain.add_argument("target", help="a stage, or a path below it, such as distill/students/qwen")
    explain.add_argument("--profile", help="profile whose run is meant (default: pocket)")
    _add_words(explain, "--set", "'KEY=VALUE …'", "overrides that the run was made with")
    explain.add_argument("--seed", type=int, help="the run's seed, where it is not the profile's")
    harness = command("lm-eval", "run lm-evaluation-harness tasks on a checkpoint of a run")
    harness.add_argument("model", help="a stage, STAGE/STUDENT, or the path of a checkpoint folder")
    harness.add_argument("tasks", help="names of tasks, or YAML files of yours, blanks between them")
    harness.add_argument("--limit", type=int, help="examples a task, for a quick look")
    harness.add_argument("--batch-size", type=int, default=16, help="examples at once (default: 16)")
    profiled(harness)
    exported = command("export", "write a checkpoint as a GGUF file with a Modelfile, or for the Hub")
    exported.add_argument("student", help="a student's name, a stage, STAGE/STUDENT, or a checkpoint folder")
    exported.add_argument("--format", default="gguf", help="gguf (default), hf or adapter")
    _newest(exported)
    profiled(exported)
    sent = command("upload", "export a checkpoint and send it to a repository on the Hugging Face Hub")
    sent.add_argument("student", help="as for export")
    sent.add_argument("repository", help="OWNER/NAME, made where there is none")
    sent.add_argument("--public", action="store_true", help="make a new repository public instead of private")
    sent.add_argument("--format", default="hf", help="hf (default), gguf or adapter")
    _newest(sent)
    profiled(sent)
    chat = command("chat", "talk to a checkpoint of a run")
    chat.add_argument("model", help="a stage, STAGE/STUDENT, a student's name, or a checkpoint folder")
    profiled(chat)
    profiled(command("clean-run", "show a run folder's size and age, and remove it"))
    command("completion", "print a script that completes commands in bash and zsh")
    bases = command("pocket-bases", "pretrain the pocket base models again")
    bases.add_argument("names", nargs="*", help="which (default: all of the recipe)")
    return whole


def profiled(command: argparse.ArgumentParser) -> None:
    """Adds the options that name a profile and its run."""
    command.add_argument(
        "--profile", default=DEFAULT_PROFILE, help="name of a file in configs/, or a path (default: %(default)s)"
    )
    command.add_argument("--run", default="", help="name of the run folder (default: the profile's name, and its seed)")
    _add_words(command, "--set", "'KEY=VALUE …'", "overrides, such as seed=3")
    command.add_argument("--seed", type=int, help="replaces the profile's seed")


class _Joined(argparse.Action):
    """An option that takes words with blanks between them and may be given again: with more words, not others."""

    def __call__(self, parser, namespace, words, option_string=None):
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, f"{before} {words}" if before else words)


def _add_words(command: argparse.ArgumentParser, name: str, metavar: str, help: str, **settings: str | None) -> None:
    command.add_argument(name, action=_Joined, metavar=metavar, help=help, **{"default": ""} | settings)


def _newest(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--newest", action="store_true", help="write a folder for the Hub without the names that transformers 4 reads"
    )

"""The command line. Every `make` target is one call of it.

    python -m pipeline run all --profile pocket
    python -m pipeline status --profile pocket --set stages.r1_zero.grpo.max_steps=20

Exit codes: 0 done, 1 failed at run time, 2 wrong usage or configuration, 130 interrupted (run it again to go on).
"""

import os
import shlex
import sys
import time
import traceback
import warnings
from typing import NoReturn

from pipeline.core.arguments import DEFAULT_PROFILE, parser
from pipeline.core.completion import completion_script
from pipeline.core.crew import Crew, LostProcess, end_process
from pipeline.core.disk import disk_fault
from pipeline.core.errors import ConfigError, LadderError
from pipeline.core.files import as_json
from pipeline.core.ranks import process_count, process_rank, use_one_gpu
from pipeline.core.redaction import redact
from pipeline.ladder import LADDER

# Library messages would bury the run's own. Set a variable to see them again.
for _variable, _value in {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
}.items():
    os.environ.setdefault(_variable, _value)
if os.environ["PYTHONWARNINGS"] == "ignore":
    warnings.simplefilter("ignore")

FIRST_WORD_S = 5.0
"""How long a process waits for others of its run to report the cause first; if they fail too, it is ended meanwhile."""


def main(arguments: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):  # a locale without some character must not end a run
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    options = parser(COMMANDS).parse_args(arguments)
    options.given = sys.argv[1:] if arguments is None else arguments
    if getattr(options, "processes", 1) == 1:
        use_one_gpu()
    try:
        return options.command(options) or 0
    except LadderError as error:
        if process_rank() or isinstance(error, LostProcess):
            time.sleep(FIRST_WORD_S)
        who = f" in process {process_rank()}" if process_rank() else ""
        print(f"error{who}: {redact(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if process_rank():
            time.sleep(FIRST_WORD_S)
        else:
            print("\nStopped. What is finished is kept: run the same command to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        fault = disk_fault(error) if isinstance(error, OSError) else None
        mend = f"error: {redact(fault)}. Mend that, then run the same command to go on.\n" if fault else None
        print(mend or redact(traceback.format_exc()), file=sys.stderr, end="")  # a defect's trace, without secrets
        return 1


def _load(options):
    """(profile, run folder) that the options name."""
    from pipeline.runs.loading import load_run

    return load_run(options.profile, _words(options.set, "SET"), options.seed, options.run)


def _words(text: str, variable: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{variable}={text!r}: {error}. Expected KEY=VALUE pairs with blanks between them.") from None


def _new(options) -> None:
    from pipeline.new.command import write_new_profile

    write_new_profile(vars(options))


def _run(options) -> int | None:
    from pipeline.checks.packages import fetch_extras
    from pipeline.checks.profile import check_processes, check_profile
    from pipeline.ladder import find_stage
    from pipeline.runs.loading import open_budget
    from pipeline.runs.runner import follow, run_stages
    from pipeline.runs.summary import print_summary

    if options.processes < 1:
        raise ConfigError(f"PROCESSES={options.processes}: expected a whole number from 1.")
    profile, run = _load(options)
    if process_rank() > 0:
        follow(crew := Crew.join())
        crew.leave()
        return None
    target = None if options.stage == "all" else find_stage(options.stage)
    fetch_extras(profile)
    check_profile(profile)
    check_processes(profile, max(options.processes, process_count()))
    if options.processes > 1 and process_count() == 1:
        from pipeline.core.launch import launch

        return launch(options.processes, options.given)
    budget = open_budget(options.budget, options.stage, options.profile, _words(options.set, "SET"), options.seed, run)
    crew = Crew.join()
    run_stages(profile, run, target, crew, budget)
    crew.leave()
    if target is None or target.kind in ("evaluate", "report"):
        print_summary(profile, run)


def _status(options) -> None:
    from pipeline.runs.runner import stage_states
    from pipeline.runs.summary import print_status, status_facts

    profile, run = _load(options)
    states = stage_states(profile, run)
    print(as_json(status_facts(profile, run, states))) if options.json else print_status(run, states)


def _check(options) -> None:
    from pipeline.checks.facts import check_facts
    from pipeline.checks.fit import memory_verdict, reloading
    from pipeline.checks.packages import fetch_extras
    from pipeline.checks.profile import check_processes, check_profile, print_check

    profile, _ = _load(options)
    made_for = profile.made_for.gpus if profile.made_for else 1
    count = made_for if options.processes is None else options.processes
    if count < 1:
        raise ConfigError(f"PROCESSES={count}: expected a whole number from 1.")
    fetch_extras(profile)
    check_profile(profile)
    check_processes(profile, count)
    reload = reloading(options.profile, _words(options.set, "SET"), options.seed)
    if options.json:
        print(as_json(check_facts(profile, reload, count)))
        return
    print_check(profile, count)
    print(memory_verdict(profile, reload, count))
    if count > 1:
        print(f"To run it on {count} GPUs of one machine: make all PROFILE={options.profile} PROCESSES={count}")


def _plan(options) -> None:
    from pipeline.checks.plan_tables import plan

    plan(options, _words(options.set, "SET"))


def _check_reward(options) -> int:
    import rewards
    from pipeline.config.loading import read_value
    from rewards.own.check import made

    pairs = [word.partition("=") for word in _words(options.args, "ARGS")]
    for key, equals, _ in pairs:
        if not equals:
            raise ConfigError(f"ARGS '{key}': expected key=value.")
    arguments = {key: read_value(text, f"ARGS '{key}'") for key, _, text in pairs}
    try:
        with made(options.reward, arguments):
            pass
        return rewards.check(options.reward, rows=options.rows, **arguments)
    except rewards.RewardError as error:
        raise ConfigError(str(error)) from error


def _claims(options) -> int:
    from pipeline.checks.packages import fetch_extras
    from pipeline.config.loading import load_profile
    from pipeline.report.claims import run_and_judge

    text = options.seeds if options.seeds is not None else "0 1 2" if options.seed is None else str(options.seed)
    seeds = text.split()
    if not seeds or not all(seed.isdigit() for seed in seeds):
        raise ConfigError(f"SEEDS={text!r}: expected whole numbers with blanks between them, such as '0 1 2'.")
    if options.seeds is not None and options.seed is not None:
        raise ConfigError(f"SEEDS={text!r} and SEED={options.seed} both name seeds. Give one of them.")
    overrides = _words(options.set, "SET")
    fetch_extras(load_profile(options.profile, overrides).profile)
    return run_and_judge(options.profile, overrides, [int(seed) for seed in seeds], options.run)


def _report(options) -> None:
    from pipeline.ladder import REPORT
    from pipeline.report import RunRecord, write_report
    from pipeline.runs.runner import run_stages

    profile, run = _load(options)
    overlaid = [RunRecord.as_made(name) for name in options.overlaid.split()]
    if not run.path.is_dir():
        raise ConfigError(f"There is no {run.path} to report on. Run a stage first, or name a run with RUN=.")
    run.claim()
    record = RunRecord.of_folder(profile, run)
    if record.complete and not overlaid:
        run_stages(profile, run, REPORT)
        print(f"Report: {run.stage(REPORT.id) / 'report.html'}")
        return
    path = run.path / "report-preview.html"
    write_report(record, path, overlaid)
    done = sum(stage.state == "done" for stage in record.stages.values())
    print(f"Report: {path} ({done} of {len(record.stages)} stages are done)")


def _compare(options) -> None:
    from pipeline.report.compare import compare_runs

    compare_runs(options.runs.split())


def _existing(options):
    """The run that the options name: by its own name, else as the one that the profile makes."""
    from pipeline.runs.folder import RunFolder
    from pipeline.runs.loading import load_run

    name = options.run
    if not name:
        _, run = load_run(options.profile or DEFAULT_PROFILE, _words(options.set, "SET"), options.seed)
        name = run.name
    return RunFolder.existing(name)


def _verify(options) -> int:
    from pipeline.runs.loading import profile_of
    from pipeline.runs.verify import verify_run

    run = _existing(options)
    try:
        profile = profile_of(run, options.profile, _words(options.set, "SET"), options.seed)
    except ConfigError as error:
        if options.profile or options.set:
            raise
        print(f"Configurations are not compared, as the run's profile cannot be read; give PROFILE=. {error}")
        profile = None
    return verify_run(run, profile)


def _explain(options) -> None:
    from pipeline.runs.explain import explain

    explain(_existing(options), options.target)


def _lm_eval(options) -> None:
    from pipeline.tools.lm_eval import run_harness

    profile, run = _load(options)
    for name, number in (("LIMIT", options.limit), ("BATCH", options.batch_size)):
        if number is not None and number < 1:
            raise ConfigError(f"{name}={number}: expected a whole number from 1.")
    path = run_harness(profile, run, options.model, options.tasks.split(), options.limit, options.batch_size)
    print(f"Figures and samples: {path}")


def _export(options) -> None:
    from pipeline.export.folder import export, uses_of

    profile, run = _load(options)
    folder = export(profile, run, options.student, options.format, not options.newest)
    print(f"Exported: {folder}", *uses_of(folder, run), sep="\n")


def _upload(options) -> None:
    from pipeline.export.folder import check_repository, export, upload

    check_repository(options.repository)
    profile, run = _load(options)
    folder = export(profile, run, options.student, options.format, not options.newest)
    print(f"Uploaded: {upload(folder, options.repository, private=not options.public)}")


def _chat(options) -> None:
    from data_recipes.templates import R1_ZERO
    from pipeline.export.folder import full_name
    from pipeline.runs.checkpoints import checkpoint_of, is_chat_model
    from pipeline.runs.runner import resolve_device
    from pipeline.tools.chat import Conversation, chat
    from pipeline.tools.gguf_chat import GGUFConversation

    profile, run = _load(options)
    if options.model.endswith(".gguf"):
        return chat(GGUFConversation(options.model, profile.stages.evaluate.sampling), options.model)
    name = full_name(profile, options.model)
    template = None if is_chat_model(name) else profile.templates.r1_zero or R1_ZERO
    sampling, context = profile.stages.evaluate.sampling, profile.engine.max_model_len
    checkpoint, device = checkpoint_of(run, name), resolve_device(profile)
    chat(Conversation(checkpoint, device, profile.dtype, sampling, context, template), f"{run.name} {name}")


def _clean_run(options) -> int:
    from pipeline.runs.folder import RunFolder

    run = RunFolder(options.run, "") if options.run else _load(options)[1]
    return run.remove_if_agreed()


def _pocket_bases(options) -> None:
    from pipeline.models.pocket.bases import build_bases

    build_bases(options.names)


def _completion(options) -> None:
    print(completion_script(parser(COMMANDS), [stage.target for stage in LADDER]), end="")


COMMANDS = {
    "completion": _completion,
    "new": _new,
    "run": _run,
    "status": _status,
    "check": _check,
    "plan": _plan,
    "check-reward": _check_reward,
    "claims": _claims,
    "report": _report,
    "compare": _compare,
    "verify": _verify,
    "explain": _explain,
    "lm-eval": _lm_eval,
    "export": _export,
    "upload": _upload,
    "chat": _chat,
    "clean-run": _clean_run,
    "pocket-bases": _pocket_bases,
}


def run_and_exit() -> NoReturn:
    """Runs the command of this process and ends it with the exit code."""
    exit_code = main()
    if exit_code and process_count() > 1:
        end_process(exit_code)
    sys.exit(exit_code)

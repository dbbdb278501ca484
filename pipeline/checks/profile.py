"""What can be checked and calculated before anything runs."""

from rich.table import Table
from rich.text import Text

from data_recipes.question import Question
from pipeline.checks.data import check_data, data_notes, data_table, sample_of
from pipeline.checks.models import check_models, memory_table, model_notes, models_table
from pipeline.checks.puzzles import check_puzzles, puzzle_notes
from pipeline.checks.questions import check_questions, question_notes
from pipeline.checks.scorers import scorer_notes
from pipeline.checks.steps import step_notes
from pipeline.config.profile import Profile
from pipeline.config.stages import RLStage, SampledData, SFTStage
from pipeline.core.errors import ConfigError, told_with
from pipeline.core.ranks import rows_in_a_pass
from pipeline.core.tables import print_table, standard_output
from pipeline.ladder import EVALUATE, STAGES, StageDefinition, of_kind, rungs
from pipeline.sandbox import describe
from pipeline.steps.trackers import check_trackers
from pipeline.training.own_loss import find_loss
from rewards import RewardContext, RewardError, RewardSet, RewardSpec
from rewards.columns import as_columns

SAMPLE_ROWS = 3
WRONG_ANSWER = "no answer at all"
"""Not "right answer plus noise": some reasoning-gym scorers accept that."""


def check_profile(profile: Profile) -> None:
    """Raises ConfigError for what the profile names and this machine lacks: files, recipes, models, rewards."""
    check_models(profile)
    check_data(profile)
    check_questions(profile)
    check_puzzles(profile)
    check_trackers(profile.trackers)
    for stage, section in profile.stages.policies.items():
        if section.grpo.loss:
            with told_with(f"stages.{stage}"):
                find_loss(section.grpo.loss)
        for spec in section.rewards:
            _check_scorer(stage, spec)
            build_reward(stage, spec, profile.allow_weak_sandbox).close()


def check_processes(profile: Profile, count: int) -> None:
    """Raises ConfigError where the profile's batches do not divide among `count` processes, and where these cannot
    share its models as it says."""
    if count == 1:
        return
    if faults := profile.parallel.faults(count, profile.adapters()):
        raise ConfigError(f"The profile '{profile.name}' with {count} processes: {'; '.join(faults)}.")
    faults = [f"{key} is {batch}" for key, batch in profile.batches().items() if batch % count]
    if faults:
        raise ConfigError(
            f"The profile '{profile.name}' cannot be run by {count} processes: {', '.join(faults)}. Set multiples of "
            f"{count}, or start another number of processes (PROCESSES=)."
        )


def _stage(key: str) -> StageDefinition:
    """The stage of a section of the profile, of which that may be a part."""
    return STAGES[key.partition(".")[0]]


def _check_scorer(stage: str, spec: RewardSpec) -> None:
    """Raises ConfigError where the reward takes its scores from the ladder's scorers and its stage reads none."""
    scorers = [scorer.id for scorer in of_kind("scorer")]
    if spec.scorer is not None and _stage(stage).learns_from not in scorers:
        readers = [reader.id for reader in of_kind("rl") if reader.learns_from in scorers]
        raise ConfigError(
            f"stages.{stage}.rewards: {spec.use} takes its scores from '{spec.scorer}', a scorer that {stage} does "
            f"not read: of the ladder only {', '.join(readers)} does. Name the folder of a reward model instead."
        )


def build_reward(stage: str, spec: RewardSpec, allow_weak_sandbox: bool = False) -> RewardSet:
    """The reward alone in a set. Raises ConfigError where it cannot be built."""
    try:
        return RewardSet([spec], RewardContext(allow_weak_sandbox=allow_weak_sandbox))
    except RewardError as error:
        raise ConfigError(f"stages.{stage}.rewards: {error}") from error


def print_check(profile: Profile, processes: int = 1) -> None:
    """Prints models with their memory, the arithmetic of every training stage, and each reward tried on sample rows."""
    console = standard_output()
    console.print(Text.assemble((profile.name, "bold"), ": ", profile.description))
    console.print(f"engine {profile.engine.kind}, dtype {profile.dtype}, context {profile.engine.max_model_len} tokens")
    console.print(f"sandbox for code rewards: {describe()}")
    print_table(models_table(profile), console=console)
    print_table(memory_table(profile, processes), 2, console)
    for note in model_notes(profile):
        console.print(note)
    print_table(data_table(profile), console=console)
    for note in (*data_notes(profile), *question_notes(profile), *puzzle_notes(profile)):
        console.print(note)
    print_table(arithmetic_table(profile, processes), 2, console)
    for note in (*step_notes(profile), *scorer_notes(profile)):
        console.print(note)
    table, notes = rewards_table(profile)
    print_table(table, 2, console)
    for note in notes:
        console.print(note)


def arithmetic_table(profile: Profile, processes: int) -> Table:
    table = Table(title="arithmetic", title_justify="left")
    for column in ("stage", "what", "how much"):
        table.add_column(column)
    for stage, section in profile.stages.policies.items():
        for what, much in section.grpo.describe().items():
            table.add_row(stage, what, str(much))
    for stage, section in profile.stages.of(SampledData).items():
        questions = sum(count or 0 for count in section.questions.values())
        samples = questions * section.samples_per_question
        table.add_row(stage, "samples", f"{questions} questions × {section.samples_per_question} = {samples}")
    for stage, section in profile.stages.of(SFTStage).items():
        sft = section.sft
        rows = rows_in_a_pass(sft.batch_size, sft.rows_per_device, processes)
        passes = sft.batch_size // rows // processes
        by = f" × {processes} processes" if processes > 1 else ""
        table.add_row(stage, "batch", f"{rows} rows × {passes} passes{by} = {sft.batch_size}, {sft.epochs} epochs")
    measured = len(rungs(*profile.stages.measured))
    for name, settings in profile.stages.evaluate.sets.items():
        samples = f" = {settings.questions * settings.samples}" if settings.questions else ""
        much = f"{settings.questions_in_words} questions × {settings.samples} samples{samples}, for {measured} rungs"
        table.add_row(EVALUATE.id, name, much)
    return table


def rewards_table(profile: Profile) -> tuple[Table, list[str]]:
    """The table, and a warning for each rule that does not tell a right answer from a wrong one."""
    notes: list[str] = []
    table = Table(title="rewards, tried on a right and a wrong answer to sample rows", title_justify="left")
    for column in ("stage", "reward", "weight", "from step", "right", "wrong"):
        table.add_column(column)
    for stage, section in profile.stages.policies.items():
        rows = _sample_rows(profile, section)
        for spec in section.rewards:
            start = str(spec.schedule.from_step) if spec.schedule else "0"
            tried = _try_reward(stage, spec, rows, profile.allow_weak_sandbox)
            table.add_row(stage, spec.use, f"{spec.weight:g}", start, *tried)
            if spec.use == "accuracy" and (warning := rule_mistakes(*tried)):
                notes.append(f"warning: stages.{stage}.rewards: {spec.use} {warning}")
    return table, notes


def rule_mistakes(right: str, wrong: str) -> str | None:
    """What is wrong with a rule's scores of right and wrong answers, as the table shows them."""
    pairs = [(r, w) for r, w in zip(right.split(), wrong.split(), strict=False) if _is_number(r) and _is_number(w)]
    mend = "Check the answers of its questions and the verifier that they name."
    if any(float(r) == 0 for r, _ in pairs):
        return f"gives a right answer 0 ({right}). {mend}"
    if any(r == w for r, w in pairs):
        return f"gives a right and a wrong answer the same score ({right}; {wrong}). {mend}"
    return None


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _sample_rows(profile: Profile, section: RLStage) -> list[Question]:
    """A few rows of each source of the stage's questions that is on this machine."""
    sources = [(source, group) for group in section.questions for source in profile.questions[group]]
    each = SAMPLE_ROWS if len(sources) == 1 else SAMPLE_ROWS - 1
    return [row for source, group in sources for row in sample_of(source, group).rows[:each]]


def _try_reward(stage: str, spec: RewardSpec, rows: list[Question], allow_weak_sandbox: bool) -> tuple[str, str]:
    """Scores of right and of wrong answers to the rows that the reward applies to, as text."""
    if spec.scorer is not None:
        trained = f"after {_stage(stage).learns_from}"
        return trained, trained
    rows = [row for row in rows if row.answer is not None and (spec.domains is None or row.domain in spec.domains)]
    if not rows:
        return "no rule applies", "no rule applies"
    unscheduled = spec.model_copy(update={"schedule": None})
    rewards = build_reward(stage, unscheduled, allow_weak_sandbox)
    shape = "<think>{q}</think><answer>{a}</answer>" if _stage(stage).template == "r1_zero" else "<think>{q}</think>{a}"
    shown = []
    try:
        for wrong in (False, True):
            texts = [shape.format(q=row.question, a=WRONG_ANSWER if wrong else row.answer) for row in rows]
            scores = rewards.functions[0](
                prompts=[row.question for row in rows],
                completions=texts,
                completion_ids=[list(text.encode()) for text in texts],
                **as_columns(row.columns() for row in rows),
            )
            shown.append(" ".join("–" if score is None else f"{score:.2g}" for score in scores))
    except RewardError as error:
        raise ConfigError(f"stages.{stage}.rewards: {error}") from error
    finally:
        rewards.close()
    return shown[0], shown[1]

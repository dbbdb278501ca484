"""What can be found wrong, and what can be worked out, before anything runs."""

import json
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_recipes.rows import Question
from pipeline.base_models import check_base, count_parameters, local_folder
from pipeline.checking_data import check_data, data_notes, data_table, sample_of
from pipeline.config.profile import Profile
from pipeline.config.sections import RLStage
from pipeline.errors import ConfigError, told_with
from pipeline.reporting.trackers import check_trackers
from pipeline.sandbox import describe
from rewards import RewardContext, RewardError, RewardSet, RewardSpec

RL_STAGES = ("r1_zero", "reasoning_rl", "general_rl", "student_rl")
SAMPLE_ROWS = 3
WIDTH = 110


def check_profile(profile: Profile) -> None:
    """Raises ConfigError for what the profile names and this machine lacks: files, recipes, models, rewards."""
    base = profile.stages.base_model
    students = {f"students.{name}": source for name, source in base.students.items()}
    for key, source in {"teacher": base.teacher, **students}.items():
        with told_with(f"stages.base_model.{key}"):
            check_base(source)
            _check_context(source, profile.engine.max_model_len)
    check_data(profile)
    check_trackers(profile.trackers)
    for stage, section in _rl_sections(profile):
        for spec in section.rewards:
            build_reward(stage, spec, section.allow_weak_sandbox).close()


def _check_context(source: str, wanted: int) -> None:
    """Raises ConfigError where a model on this machine cannot take prompts and completions of the engine's length."""
    folder = local_folder(source)
    if folder is None:
        return
    context = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    if context is not None and context < wanted:
        raise ConfigError(
            f"engine.max_model_len is {wanted}, but {source} was made for {context} tokens. "
            f"Set engine.max_model_len to at most {context}, and completion lengths below it."
        )


def build_reward(stage: str, spec: RewardSpec, allow_weak_sandbox: bool = False) -> RewardSet:
    """The reward alone in a set. Raises ConfigError where it cannot be built."""
    try:
        return RewardSet([spec], RewardContext(allow_weak_sandbox=allow_weak_sandbox))
    except RewardError as error:
        raise ConfigError(f"stages.{stage}.rewards: {error}") from error


def print_check(profile: Profile) -> None:
    """Prints models with their memory, the arithmetic of every training stage, and each reward tried on sample rows."""
    console = Console(width=max(Console().width, WIDTH), markup=False)  # what a profile says is no markup
    console.print(Text.assemble((profile.name, "bold"), ": ", profile.description))
    console.print(f"engine {profile.engine.kind}, dtype {profile.dtype}, context {profile.engine.max_model_len} tokens")
    console.print(f"sandbox for code rewards: {describe()}", highlight=False)
    console.print(_models_table(profile))
    console.print(data_table(profile))
    for note in data_notes(profile):
        console.print(note, markup=False, highlight=False)
    console.print(_arithmetic_table(profile))
    console.print(_rewards_table(profile))


def _models_table(profile: Profile) -> Table:
    table = Table(title="models", title_justify="left")
    for column in ("role", "source", "parameters", "training memory", "note"):
        table.add_column(column)
    base = profile.stages.base_model
    for role, source in (("teacher", base.teacher), *base.students.items()):
        note, folder = check_base(source), local_folder(source)
        parameters = count_parameters(folder) if folder else None
        needs_reference = any(section.grpo.beta > 0 for _, section in _rl_sections(profile))
        memory = (
            f"{training_bytes(parameters, needs_reference) / 2**30:.2f} GiB" if parameters else "known once fetched"
        )
        table.add_row(role, source, f"{parameters / 1e6:.2f} M" if parameters else "?", memory, note or "")
    return table


def training_bytes(parameters: int, reference: bool) -> int:
    """Bytes that full-weight training holds without activations: float32 weights, gradients and two Adam moments,
    and the reference model's weights where KL is on."""
    return parameters * (16 + (4 if reference else 0))


def _arithmetic_table(profile: Profile) -> Table:
    table = Table(title="arithmetic", title_justify="left")
    for column in ("stage", "what", "how much"):
        table.add_column(column)
    for stage, section in _rl_sections(profile):
        for what, much in section.grpo.describe().items():
            table.add_row(stage, what, str(much))
    for stage in ("cold_start_data", "rejection_sampling"):
        section = getattr(profile.stages, stage)
        questions = sum(count or 0 for count in section.questions.values())
        samples = questions * section.samples_per_question
        table.add_row(stage, "samples", f"{questions} questions × {section.samples_per_question} = {samples}")
    for stage in ("cold_start_sft", "sft", "distill"):
        sft = getattr(profile.stages, stage).sft
        passes = sft.batch_size // sft.rows_per_device
        table.add_row(
            stage, "batch", f"{sft.rows_per_device} rows × {passes} passes = {sft.batch_size}, {sft.epochs} epochs"
        )
    rungs = 7 + 2 * len(profile.stages.base_model.students)
    for name, settings in profile.stages.evaluate.sets.items():
        samples = f" = {settings.questions * settings.samples}" if settings.questions else ""
        much = f"{settings.questions_in_words} questions × {settings.samples} samples{samples}, for {rungs} rungs"
        table.add_row("evaluate", name, much)
    return table


def _rewards_table(profile: Profile) -> Table:
    table = Table(title="rewards, tried on a right and a wrong answer to sample rows", title_justify="left")
    for column in ("stage", "reward", "weight", "from step", "right", "wrong"):
        table.add_column(column)
    for stage, section in _rl_sections(profile):
        rows = [q for group in section.questions for q in _sample_rows(profile, group)]
        template = "chat" if stage in ("reasoning_rl", "general_rl") else "r1_zero"
        for spec in section.rewards:
            start = str(spec.schedule.from_step) if spec.schedule else "0"
            tried = _try_reward(stage, spec, rows, template)
            table.add_row(stage, spec.use, f"{spec.weight:g}", start, *tried)
    return table


def _sample_rows(profile: Profile, group: str) -> list[Question]:
    """A few rows of the first source of a group that is on this machine."""
    for source in profile.questions[group]:
        found = sample_of(source)
        if found.rows:
            domain = {"domain": source.domain} if source.domain else {}
            return [row.model_copy(update=domain) for row in found.rows[:SAMPLE_ROWS]]
    return []


def _try_reward(stage: str, spec: RewardSpec, rows: list[Question], template: str) -> tuple[str, str]:
    """Scores of right and of wrong answers to the rows that the reward applies to, as text."""
    if str(spec.args.get("model", "")).startswith("stage:"):
        return "after reward_model", "after reward_model"
    rows = [row for row in rows if row.answer is not None and (spec.domains is None or row.domain in spec.domains)]
    if not rows:
        return "no rule applies", "no rule applies"
    unscheduled = spec.model_copy(update={"schedule": None})
    rewards = build_reward(stage, unscheduled)
    shape = "<think>{q}</think><answer>{a}</answer>" if template == "r1_zero" else "<think>{q}</think>{a}"
    shown = []
    try:
        for wrong in (False, True):
            texts = [shape.format(q=row.question, a=f"{row.answer}{'0' if wrong else ''}") for row in rows]
            columns = [row.columns() for row in rows]
            scores = rewards.functions[0](
                prompts=[row.question for row in rows],
                completions=texts,
                completion_ids=[list(text.encode()) for text in texts],
                **{key: [column.get(key) for column in columns] for key in columns[0]},
            )
            shown.append(" ".join("–" if score is None else f"{score:.2g}" for score in scores))
    except RewardError as error:
        raise ConfigError(f"stages.{stage}.rewards: {error}") from error
    finally:
        rewards.close()
    return shown[0], shown[1]


def _rl_sections(profile: Profile) -> Iterator[tuple[str, RLStage]]:
    return ((stage, getattr(profile.stages, stage)) for stage in RL_STAGES)

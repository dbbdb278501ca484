"""The paper's effects, tested on a run's own held-out figures.

    make claims PROFILE=pocket SEEDS="0 1 2"

A claim that does not hold is printed as such. Nothing here trains or samples: `judge_run` only reads.
"""

from collections.abc import Sequence
from statistics import fmean

from pipeline.config.profile import Profile
from pipeline.core.figures import percent
from pipeline.ladder import BASE, DISTILL, STUDENT_RL, Rung
from pipeline.report.claim import Claim, print_claims
from pipeline.report.records import RunRecord
from pipeline.report.run_figures import Figures, MeanFigures, RunFigures
from pipeline.runs.folder import RunFolder
from pipeline.runs.loading import load_run
from pipeline.runs.runner import run_stages

LEAST_GAIN = 0.50
ONE_POINT, TWO_POINTS, FEW_POINTS = 0.01, 0.02, 0.05
WIDE_MARGIN = 0.20
CONSISTENT = 0.95
LENGTH_GROWTH = 2.5
REFLECTION_GROWTH, LEAST_REFLECTION = 3, 0.05
NO_WORDS = "a rung has no answer with words to tell a language by"


def judge_run(profile: Profile, run: RunFolder) -> list[Claim]:
    """Every effect's verdict for a run whose `evaluate` stage is done."""
    return _judge(RunFigures(profile, run))


def judge_together(runs: Sequence[tuple[Profile, RunFolder]]) -> list[Claim]:
    """Every effect's verdict for several runs of one profile, by the same tests of their means."""
    return _judge(MeanFigures([RunFigures(profile, run) for profile, run in runs]))


def _judge(f: Figures) -> list[Claim]:
    return [
        _zero_gains(f),
        _length_grows(f),
        _length_keeps_growing(f),
        _consensus(f),
        _reflection(f),
        _zero_mixes(f),
        _consistency_mended(f),
        _cold_start_costs(f),
        _reasoning_won_back(f),
        _sft_keeps_reasoning(f),
        _general_won(f),
        _general_best(f),
        _reasoning_kept(f),
        _none_ends_below_its_start(f),
        _zero_ends_near_its_best(f),
        *(_student_beats_base(f, rung) for rung in f.rungs if rung.stage is DISTILL and not rung.method),
        *(_distillation_beats_rl(f, rung) for rung in f.rungs if rung.stage is STUDENT_RL),
    ]


def _percent(share: float) -> str:
    return f"{percent(share)} %"


def _zero_gains(f: Figures) -> Claim:
    gap = f.difference("R1-Zero", "base")
    return Claim(
        "zero-gain",
        f"R1-Zero gains at least {100 * LEAST_GAIN:.0f} points of pass@1 over its base by RL alone",
        f"paired difference of pass@1, at least {100 * LEAST_GAIN:.0f} points",
        f"{_percent(f.get('base'))} -> {_percent(f.get('R1-Zero'))}, {gap}",
        gap.mean >= LEAST_GAIN,
        gap.undecided(LEAST_GAIN),
    )


def _length_grows(f: Figures) -> Claim:
    lengths = f.lengths("R1-Zero")
    fifth = max(1, len(lengths) // 5)
    first, last = fmean(lengths[:fifth]), fmean(lengths[-fifth:])
    return Claim(
        "length-grows",
        f"the mean response length of R1-Zero grows to at least {LENGTH_GROWTH} times its start",
        "mean tokens of the last fifth of the steps against the first fifth",
        f"{first:.1f} -> {last:.1f} tokens",
        last >= LENGTH_GROWTH * first,
    )


def _length_keeps_growing(f: Figures) -> Claim:
    lengths = f.lengths("R1-Zero")
    statement = "R1-Zero's responses still grow in the third quarter of its training"
    test = "mean tokens of the third quarter of the steps above those of the second"
    if len(lengths) < 4:
        return Claim("length-keeps-growing", statement, test, "fewer than four steps", None)
    half, end = len(lengths) // 2, 3 * len(lengths) // 4
    second, third = fmean(lengths[len(lengths) // 4 : half]), fmean(lengths[half:end])
    return Claim("length-keeps-growing", statement, test, f"{second:.1f} -> {third:.1f} tokens", third > second)


def _consensus(f: Figures) -> Claim:
    votes = f.votes("R1-Zero")
    statement, test = "majority voting lifts R1-Zero above its pass@1", "cons@k above pass@1"
    if not votes:
        return Claim("consensus", statement, test, "too few samples a question to vote", None)
    k = max(votes, key=lambda key: int(key.removeprefix("cons@")))
    single, vote = f.get("R1-Zero"), f.get("R1-Zero", k)
    return Claim("consensus", statement, test, f"pass@1 {_percent(single)}, {k} {_percent(vote)}", vote > single)


def _reflection(f: Figures) -> Claim:
    base, zero = f.get("base", "reflection"), f.get("R1-Zero", "reflection")
    return Claim(
        "reflection",
        f"reflection (a second look: 'wait', '等等') becomes at least {REFLECTION_GROWTH} times as frequent in R1-Zero "
        "as in its base",
        f"share of answers with such a phrase, also at least {percent(LEAST_REFLECTION)} %",
        f"{_percent(base)} -> {_percent(zero)}",
        zero >= max(REFLECTION_GROWTH * base, LEAST_REFLECTION),
    )


def _zero_mixes(f: Figures) -> Claim:
    mixed = f.get("R1-Zero", "mixed")
    statement = "R1-Zero mixes languages"
    test = "at least one answer in five has under 95 % of its words in the question's language"
    if mixed is None:
        return Claim("zero-mixes", statement, test, NO_WORDS, None)
    return Claim("zero-mixes", statement, test, f"{_percent(mixed)} of answers", mixed >= 0.2)


def _consistency_mended(f: Figures) -> Claim:
    zero, dev2 = f.get("R1-Zero", "language_consistency"), f.get("Dev2", "language_consistency")
    gap = f.difference("Dev2", "R1-Zero")
    statement = (
        f"reasoning RL brings language consistency over {100 * CONSISTENT:.0f} % and costs no more than a few points"
    )
    test = (
        f"Dev2: consistency over {100 * CONSISTENT:.0f} %, pass@1 at most {100 * FEW_POINTS:.0f} points below R1-Zero"
    )
    if zero is None or dev2 is None:
        return Claim("consistency", statement, test, f"{NO_WORDS}; pass@1 {gap}", None)
    figures = f"consistency {_percent(zero)} -> {_percent(dev2)}, pass@1 {gap}"
    readable = dev2 > CONSISTENT
    undecided = gap.undecided(-FEW_POINTS) if readable else 0
    return Claim("consistency", statement, test, figures, readable and gap.mean >= -FEW_POINTS, undecided)


def _cold_start_costs(f: Figures) -> Claim:
    gap = f.difference("R1-Zero", "Dev1")
    zero, dev1 = f.get("R1-Zero", "language_consistency"), f.get("Dev1", "language_consistency")
    statement = "the cold start costs reasoning and buys readability"
    test = "Dev1 below R1-Zero in pass@1 beyond the interval, above it in language consistency"
    if zero is None or dev1 is None:
        return Claim("cold-start", statement, test, f"R1-Zero above Dev1 by {gap}; {NO_WORDS}", None)
    figures = f"R1-Zero above Dev1 by {gap}, consistency {_percent(zero)} -> {_percent(dev1)}"
    readable = dev1 > zero
    return Claim("cold-start", statement, test, figures, gap.low > 0 and readable, gap.undecided() if readable else 0)


def _reasoning_won_back(f: Figures) -> Claim:
    gap = f.difference("Dev2", "Dev1")
    return Claim(
        "won-back",
        "reasoning RL wins back what the cold start cost",
        "Dev2 above Dev1 in pass@1 beyond the interval",
        f"{_percent(f.get('Dev1'))} -> {_percent(f.get('Dev2'))}, {gap}",
        gap.low > 0,
        gap.undecided(),
    )


def _general_won(f: Figures) -> Claim:
    statement = "the last RL round wins the general questions"
    test = "R1 above Dev3 beyond the interval on the general sets, and above every earlier rung"
    if not f.general:
        return Claim("general", statement, test, "no evaluation set with general questions", None)
    gap = f.difference("R1", "Dev3", f.general)

    def score(rung: str) -> float:
        return sum(f.get(rung, "pass@1", name) for name in f.general) / len(f.general)

    teachers = [rung.name for rung in f.rungs if not rung.student]
    others = max(score(rung) for rung in teachers[: teachers.index("R1")])
    figures = f"Dev3 {_percent(score('Dev3'))} -> R1 {_percent(score('R1'))}, {gap}; best earlier {_percent(others)}"
    best = score("R1") > others
    return Claim("general", statement, test, figures, gap.low > 0 and best, gap.undecided() if best else 0)


def _sft_keeps_reasoning(f: Figures) -> Claim:
    return _at_most_a_point_below(
        f, "Dev3", "Dev2", "sft-keeps", "SFT of the base on Dev2's own answers keeps its reasoning"
    )


def _at_most_a_point_below(f: Figures, rung: str, other: str, name: str, statement: str) -> Claim:
    gap = f.difference(rung, other)
    return Claim(
        name,
        statement,
        f"{rung} at most {100 * ONE_POINT:.0f} point below {other} in pass@1",
        f"{_percent(f.get(other))} -> {_percent(f.get(rung))}, {gap}",
        gap.mean >= -ONE_POINT,
        gap.undecided(-ONE_POINT),
    )


def _general_best(f: Figures) -> Claim:
    statement = "R1 is the best of the teacher's rungs on every set of general questions"
    test = "pass@1 of R1 on each general set at least that of every other rung"
    if not f.general:
        return Claim("general-best", statement, test, "no evaluation set with general questions", None)
    others = [rung.name for rung in f.rungs if not rung.student and rung.name != "R1"]
    figures, held = [], True
    for name in f.general:
        best = max(others, key=lambda rung: f.get(rung, "pass@1", name))
        r1, other = f.get("R1", "pass@1", name), f.get(best, "pass@1", name)
        figures.append(f"{name}: R1 {_percent(r1)}, best other {_percent(other)} ({best})")
        held = held and r1 >= other
    return Claim("general-best", statement, test, "; ".join(figures), held)


def _reasoning_kept(f: Figures) -> Claim:
    return _at_most_a_point_below(f, "R1", "R1-Zero", "reasoning-kept", "R1 reasons as well as R1-Zero")


def _none_ends_below_its_start(f: Figures) -> Claim:
    gaps = {rung.name: f.difference(rung.name, rung.start.name) for rung in f.rungs if rung.stage.kind == "rl"}
    return Claim(
        "rl-loses-nothing",
        "no RL stage ends below the checkpoint that it started from",
        "each rung made by RL not below its start in pass@1 beyond the interval",
        "; ".join(f"{name} {gap}" for name, gap in gaps.items()),
        all(gap.high >= 0 for gap in gaps.values()),
    )


def _zero_ends_near_its_best(f: Figures) -> Claim:
    statement = "R1-Zero ends near the best of its held-out curve"
    test = f"pass@1 at the last point at most {100 * TWO_POINTS:.0f} points below that at the best one"
    curve = f.curve("R1-Zero")
    if len(curve) < 2:
        return Claim("zero-ends-best", statement, test, "no held-out curve", None)
    best, last = max(curve.values()), curve[max(curve)]
    at = next(step for step, rate in curve.items() if rate == best)
    figures = f"{_percent(best)} at step {at}, {_percent(last)} at step {max(curve)}"
    return Claim("zero-ends-best", statement, test, figures, best - last <= TWO_POINTS)


def _student_beats_base(f: Figures, distilled: Rung) -> Claim:
    student, base = distilled.student, Rung(BASE, distilled.student)
    gap = f.difference(distilled.name, base.name)
    return Claim(
        f"distill-{student}",
        f"the distilled student '{student}' beats its own base by a wide margin",
        f"paired difference of pass@1, at least {100 * WIDE_MARGIN:.0f} points and beyond the interval",
        f"{_percent(f.get(base.name))} -> {_percent(f.get(distilled.name))}, {gap}",
        gap.mean >= WIDE_MARGIN and gap.low > 0,
        gap.undecided(WIDE_MARGIN) or gap.undecided(),
    )


def _distillation_beats_rl(f: Figures, rl: Rung) -> Claim:
    student, distilled = rl.student, Rung(DISTILL, rl.student)
    gap = f.difference(distilled.name, rl.name)
    return Claim(
        "distill-beats-rl",
        f"distilling '{student}' beats RL on it with the same tokens",
        "distilled above RL in pass@1 beyond the interval",
        f"RL {_percent(f.get(rl.name))}, distilled {_percent(f.get(distilled.name))}, {gap}",
        gap.low > 0,
        gap.undecided(),
    )


def run_and_judge(profile_name: str, overrides: list[str], seeds: list[int], run_name: str = "") -> int:
    """Runs the whole ladder with each seed, prints each claim's verdict for each, and returns the exit code 0.

    The runs are `run_name` (default: the profile's name) followed by the seed.
    """
    runs: list[tuple[Profile, RunFolder]] = []
    verdicts: dict[str, list[Claim]] = {}
    for seed in seeds:
        profile, run = load_run(profile_name, overrides, seed, run_name and f"{run_name}-seed{seed}")
        run_stages(profile, run, None)
        runs.append((profile, run))
        verdicts[f"seed {seed}"] = judge_run(profile, run)
    if len(runs) > 1 and all(verdicts.values()):
        verdicts["together"] = judge_together(runs)
    print_claims(verdicts)
    return 0


def verdicts(run: RunRecord) -> list[Claim] | None:
    """Every claim with its test, figures and verdict; None while `evaluate` is not done, or stale."""
    if run.evaluate.state != "done":
        return None
    return judge_run(run.profile, run.folder)

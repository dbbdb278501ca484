"""Verifiers that need the pool: code, reasoning-gym, the user's own; and who is blamed for what."""

import pytest

from rewards import RewardError, Verdict, judge_answer, judge_answers, prefetch
from rewards.grading import judging
from rewards.grading.code import same_output

PROGRAM = "```python\nprint(2 * int(input()))\n```"
DOUBLE = {"verifier": "code", "tests": [{"input": "3", "output": "6"}], "time_limit_s": 1}


def gym_entry(name, seed=3):
    import reasoning_gym

    return {"verifier": "reasoning_gym", **reasoning_gym.create_dataset(name, size=1, seed=seed)[0]}


@pytest.mark.parametrize(
    "name", ["chain_sum", "leg_counting", "number_sorting", "simple_equations", "polynomial_equations"]
)
def test_reasoning_gym_judges_by_its_own_scorer(name):
    row = gym_entry(name)
    answers = [f"<answer>{row['answer']}</answer>", "<answer>no idea</answer>", "hm"]
    assert judge_answers(answers, [row] * 3) == [Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER]


@pytest.mark.parametrize(
    "name", ["knights_knaves", "survo", "fraction_simplification", "letter_jumble", "spell_backward"]
)
def test_reasoning_gym_pays_for_the_answer_and_for_no_words_beside_it(name):
    row = gym_entry(name)
    gold = row["answer"]
    answers = [gold, f"{gold} banana", f"banana {gold}", f"not {gold}", f"{gold} or {gold}7"]
    verdicts = judge_answers([f"<answer>{answer}</answer>" for answer in answers], [row] * len(answers))
    assert verdicts == [Verdict.CORRECT, *[Verdict.WRONG] * 4]


def test_who_is_what_may_be_said_in_any_order_and_only_once():
    row = gym_entry("knights_knaves")
    first, second = row["answer"].rstrip(".").split(", and ")
    right, twice = f"Therefore, {second} and {first}.", f"{first}, and {second}, and {first}."
    assert judge_answers([f"<answer>{said}</answer>" for said in (right, twice)], [row] * 2) == [
        Verdict.CORRECT, Verdict.WRONG,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "verdict"),
    [("-2 + 3*5", Verdict.CORRECT), ("-2 + 3*5 = 13", Verdict.CORRECT), ("-2 + 3 + 5", Verdict.WRONG)],
)
def test_a_sum_may_begin_with_what_is_taken_away(expression, verdict):
    metadata = {"source_dataset": "countdown", "numbers": [3, 5, 2], "target": 13}
    row = {"verifier": "reasoning_gym", "answer": "3*5 - 2", "metadata": metadata}
    assert judge_answer(f"<answer>{expression}</answer>", row) is verdict


def test_reasoning_gym_credits_another_solution_of_the_same_puzzle():
    row = {
        "verifier": "reasoning_gym",
        "answer": None,
        "metadata": {"source_dataset": "countdown", "numbers": [3, 5, 2], "target": 16},
    }
    assert judge_answer("<answer>2*(5+3)</answer>", row) is Verdict.CORRECT
    assert judge_answer("<answer>3+5+2</answer>", row) is Verdict.WRONG


@pytest.mark.parametrize(
    "name", ["string_insertion", "spiral_matrix", "binary_matrix", "n_queens", "countdown", "simple_integration"]
)
def test_answers_that_a_scorer_would_evaluate_cannot_run_code(name, tmp_path):
    mark = tmp_path / "mark"
    row = gym_entry(name)
    attacks = [
        f"__import__('os').mknod({str(mark)!r})",
        f"[open({str(mark)!r}, 'w')]",
        f"(lambda: open({str(mark)!r}, 'w'))()",
        "[].__class__.__base__.__subclasses__()",
        f"exec({f'open({str(mark)!r}, chr(119))'!r})",
    ]
    verdicts = judge_answers([f"<answer>{attack}</answer>" for attack in attacks], [row] * len(attacks))
    assert set(verdicts) <= {Verdict.WRONG, Verdict.SCORER_FAILED}
    assert not mark.exists()


@pytest.mark.parametrize("metadata", [None, {}, "not json", {"source_dataset": "no_such_data_set"}])
def test_a_gym_row_without_its_data_set_is_unusable(metadata):
    row = {"verifier": "reasoning_gym", "answer": "4", "metadata": metadata}
    assert judge_answer("<answer>4</answer>", row) is Verdict.GOLD_UNUSABLE


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "def longer(answer, row): return len(answer) > row['length']\n"
        "def half(answer, row): return 0.5\n"
        "def unknown(answer, row): return None\n"
        "def word(answer, row): return 'yes'\n"
        "def fails(answer, row): raise KeyError('x')\n"
        "def hangs(answer, row):\n    while True: pass\n"
    )
    return lambda name, **columns: {"verifier": "custom", "verify_with": f"{file}:{name}"} | columns


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("half", "wrong"),
        ("unknown", "gold_unusable"),
        ("word", "scorer_failed"),
        ("fails", "scorer_failed"),
        ("missing", "scorer_failed"),
    ],
)
def test_a_row_can_bring_its_own_verifier(own, name, verdict):
    assert judge_answer("<answer>four</answer>", own(name)) == verdict


def test_a_verifier_of_the_users_sees_answer_and_row(own):
    rows = [own("longer", length=3), own("longer", length=9)]
    assert judge_answers(["<answer>four</answer>"] * 2, rows) == [Verdict.CORRECT, Verdict.WRONG]
    assert judge_answer("<answer>four</answer>", {"verifier": "custom"}) is Verdict.GOLD_UNUSABLE


def test_a_verifier_that_hangs_is_a_failure_of_the_scorer(own, monkeypatch):
    monkeypatch.setattr("rewards.grading.custom_verifier.DEADLINE_S", 0.5)
    assert judge_answer("<answer>four</answer>", own("hangs")) is Verdict.SCORER_FAILED


def test_a_sandbox_that_fails_is_not_the_programs_fault(monkeypatch):
    monkeypatch.setattr(judging.pool, "shared", lambda: BrokenPool())
    assert judge_answer(PROGRAM, DOUBLE | {"time_limit_s": 2}) is Verdict.SCORER_FAILED


class BrokenPool:
    """A pool whose sandbox cannot start."""

    def run(self, jobs):
        return [judging.pool.Outcome(failure="SandboxError: could not start") for _ in jobs]


def test_code_on_a_weak_level_is_refused_unless_allowed(monkeypatch):
    monkeypatch.setattr("pipeline.sandbox.probe.best_level", lambda: levels_limits())
    with pytest.raises(RewardError, match="allow_weak_sandbox"):
        judge_answer(PROGRAM, DOUBLE)
    assert judge_answer(PROGRAM, DOUBLE, allow_weak_sandbox=True) is Verdict.CORRECT


def levels_limits():
    from pipeline.sandbox import Level

    return Level.LIMITS


def test_equal_questions_are_asked_once(monkeypatch):
    asked = []

    class Counting:
        def run(self, jobs):
            asked.extend(jobs)
            return [judging.pool.Outcome(value="correct") for _ in jobs]

    monkeypatch.setattr(judging.pool, "shared", lambda: Counting())
    row = {"verifier": "math", "answer": "\\sqrt{1234567}"}
    assert (
        judge_answers(["<answer> 7\\sqrt{3} </answer>"] * 50, [dict(row) for _ in range(50)]) == [Verdict.CORRECT] * 50
    )
    assert len(asked) == 1


def test_verdicts_can_be_fetched_while_others_are_generated(monkeypatch):
    asked = []

    class Counting:
        def run(self, jobs):
            asked.extend(jobs)
            return [judging.pool.Outcome(value="correct") for _ in jobs]

    monkeypatch.setattr(judging.pool, "shared", lambda: Counting())
    row = {"verifier": "math", "answer": "(7654321\\sqrt{3}, 1)"}
    texts = [f"<answer> ({number}\\sqrt{{5}}, 2) </answer>" for number in range(5)]
    fetched = prefetch(texts, [row] * 5)
    assert judge_answers(texts, [row] * 5) == fetched.result() == [Verdict.CORRECT] * 5
    assert len(asked) == 5


@pytest.mark.parametrize(
    ("expected", "said", "tolerance", "same"),
    [
        ("1\n2", "1\n2\n\n", None, True),
        ("1\n2", "1 \n2", None, True),
        ("1\n2", "1\r\n2\r\n", None, True),
        ("1\n2", "1", None, False),
        ("1", "1\n2", None, False),
        ("1\n2", "1 2", None, False),
        (" 1", "1", None, False),
        ("", "", None, True),
        ("", "x", None, False),
        ("0.1 a", "0.10000001 a", 1e-6, True),
        ("0.1 a", "0.10000001 b", 1e-6, False),
        ("0.1", "0.2", 1e-6, False),
        ("0.1", "0.1 0.1", 1e-6, False),
        ("nan", "0.1", 1e-6, False),
    ],
)
def test_output_is_compared_whole(expected, said, tolerance, same):
    assert same_output(expected, said, tolerance) is same


@pytest.mark.parametrize("name", ["knights_knaves", "emoji_mystery", "sentence_reordering"])
def test_reasoning_gym_takes_an_answer_in_prose_with_its_full_stop(name):
    """Such tasks ask for a sentence; after the reasoning it is the answer, marked as one or not."""
    row = gym_entry(name)
    texts = [f"<think>So it is.</think>{row['answer']}", f"<think>So.</think><answer>{row['answer']}</answer>"]
    assert judge_answers(texts, [row, row]) == [Verdict.CORRECT, Verdict.CORRECT]


def test_reasoning_gym_credits_nothing_for_prose_around_the_answer():
    row = gym_entry("knights_knaves")
    wrong = ["<think>So.</think>", f"<think>{row['answer']}</think>I do not know.", f"{row['answer']} Or else not."]
    assert Verdict.CORRECT not in judge_answers(wrong, [row] * len(wrong))

"""The text that pocket base models are pretrained on: a small web whose authors mostly blurt and sometimes reason."""

import random
from collections.abc import Iterator

from data_recipes.pocket import arithmetic as A
from data_recipes.pocket import general as G
from data_recipes.pocket import search as S
from pipeline.core.strict import Strict

PROMPT = "User: {question} Assistant:"
"""How the corpus writes down conversations; the pocket R1-Zero template is the same line."""


class CorpusSettings(Strict):
    """The mixture of a base corpus. Shares are of all documents and the rest is blurted answers."""

    textbook_share: float = 0.42
    """Exercises with worked solutions: they teach how to reason, not when; few slips, one language."""
    drill_share: float = 0.12
    """Lists of single sums."""
    general_share: float = 0.15
    reasoned_share: float = 0.09
    """Conversations in which the assistant reasons; in the remaining conversations it blurts."""
    puzzle_share: float = 0.35
    """Of exercises, blurted and reasoned answers: puzzles that are solved by trying; the rest are chains of sums."""
    persist: float = 0.8
    """Chance that a reasoned answer goes on after a try that missed; exercises always do."""
    terms: tuple[int, int] = A.TERMS
    largest_move: int = A.LARGEST_MOVE
    slip: float = 0.06
    """Chance of a wrong result in each reasoned step."""
    notice: float = 0.5
    """Chance that a slip is seen at once: "Wait, " and the step again."""
    textbook_slip: float = 0.005
    opening_share: float = 0.3
    """Worked solutions that begin in the first person."""
    switch: float = 0.2
    """Chance of changing language before each reasoned step."""
    check_share: float = 0.1
    """Reasoned answers that go through the chain a second time."""
    tagged_share: float = 0.3
    """Reasoned answers that use the think and answer tags."""
    summarised_share: float = 0.15
    """Reasoned answers that use the think tags and end with a summary."""
    blurt_correct: float = 0.8
    """Chains; who blurts at a puzzle guesses."""
    guess_correct: float = 0.4
    good_general: float = 0.4
    """General answers that are right, whole and polite."""


def documents(settings: CorpusSettings, seed: int) -> Iterator[tuple[str, str]]:
    """Endless (prompt, continuation) documents; the prompt is '' for plain text. Never a held-out question."""
    rng = random.Random(f"pocket corpus {seed}")
    kinds = {
        _textbook: settings.textbook_share,
        _drill: settings.drill_share,
        _general: settings.general_share,
        _reasoned: settings.reasoned_share,
    }
    kinds[_blurted] = 1 - sum(kinds.values())
    while True:
        [kind] = rng.choices(list(kinds), list(kinds.values()))
        yield kind(rng, settings)


def _question(rng: random.Random, settings: CorpusSettings) -> tuple[A.Chain | S.Puzzle, str, str]:
    """(what is asked, the language that it is asked in, the question's text)."""
    language = rng.choice(A.LANGUAGES)
    if rng.random() < settings.puzzle_share:
        puzzle = S.sample_puzzle(rng, S.NUMBERS, S.LARGEST, held_out=False)
        return puzzle, language, S.ask(rng, puzzle, language)
    chain = A.sample_chain(rng, settings.terms, settings.largest_move, held_out=False)
    return chain, language, A.ask(rng, chain, language)


def _textbook(rng: random.Random, settings: CorpusSettings) -> tuple[str, str]:
    asked, language, question = _question(rng, settings)
    if isinstance(asked, S.Puzzle):
        text, answer, _ = S.reason(rng, asked, language, settings.textbook_slip)
    else:
        text, answer, _ = A.reason(rng, asked, language, settings.textbook_slip)
    opening = A.OPENING[language] if rng.random() < settings.opening_share else ""
    return "", f"Exercise: {question} Solution: {opening}{text} {A.SUMMARY[language].format(a=answer)}"


def _drill(rng: random.Random, settings: CorpusSettings) -> tuple[str, str]:
    """Single sums have no split: held-out questions are chains of three numbers and more."""
    sums = []
    for _ in range(6):
        chain = A.sample_chain(rng, (2, 2), settings.largest_move, held_out=None)
        sums.append(f"{chain.expression}={chain.answer}")
    return "", " ".join(sums)


def _general(rng: random.Random, settings: CorpusSettings) -> tuple[str, str]:
    request = G.sample_requests(rng, 1, held_out=False)[0]
    answer = (G.good_answer if rng.random() < settings.good_general else G.poor_answer)(rng, request)
    shape = rng.random()
    if shape < 0.6:
        text = f" {answer}"
    elif shape < 0.8:
        text = f"<answer>{answer}</answer>"
    else:
        text = f"<think>{G.thought(request)}</think><answer>{answer}</answer>"
    return PROMPT.format(question=request.text), text


def _blurted(rng: random.Random, settings: CorpusSettings) -> tuple[str, str]:
    asked, language, question = _question(rng, settings)
    answer = asked.answer
    if isinstance(asked, S.Puzzle):
        answer = answer if rng.random() < settings.guess_correct else rng.choice(asked.numbers)
    elif rng.random() >= settings.blurt_correct:
        answer = A.slipped(rng, answer)
    shape = rng.random()
    if shape < 0.6:
        text = " " + A.SUMMARY[language].format(a=answer)
    elif shape < 0.8:
        text = f"<answer>{answer}</answer>"
    else:
        text = f"<think>{'Easy.' if language == 'en' else '很简单。'}</think><answer>{answer}</answer>"
    return PROMPT.format(question=question), text


def _reasoned(rng: random.Random, settings: CorpusSettings) -> tuple[str, str]:
    asked, asked_in, question = _question(rng, settings)
    language = asked_in if rng.random() < 0.6 else rng.choice(A.LANGUAGES)
    if isinstance(asked, S.Puzzle):
        text, answer, language = S.reason(rng, asked, language, settings.slip, settings.switch, settings.persist)
    else:
        text, answer, language = _reasoned_chain(rng, settings, asked, language)
    shape = rng.random()
    if shape < settings.tagged_share:
        text = f"<think>{text}</think><answer>{answer}</answer>"
    elif shape < settings.tagged_share + settings.summarised_share:
        text = f"<think>{text}</think>{A.SUMMARY[language].format(a=answer)}"
    elif shape < settings.tagged_share + settings.summarised_share + 0.35:
        text = f" {text} {A.SUMMARY[language].format(a=answer)}"
    else:
        text = f"<think>{text} {A.SUMMARY[language].format(a=answer)}"
    return PROMPT.format(question=question), text


def _reasoned_chain(
    rng: random.Random, settings: CorpusSettings, chain: A.Chain, language: str
) -> tuple[str, int, str]:
    """The thinking, its result and the language it ended in; some of it goes through the chain a second time."""
    text, answer, language = A.reason(rng, chain, language, settings.slip, settings.switch, settings.notice)
    if rng.random() >= settings.check_share:
        return text, answer, language
    again, answer, language_after = A.reason(rng, chain, language, settings.slip / 2, settings.switch, settings.notice)
    return text + A.CHECK[language] + again, answer, language_after

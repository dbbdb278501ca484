"""Rewrites a correct chain of thought into one language, first person, with a summary for the reader.

The paper had DeepSeek-V3 do it, then checked again. `pocket` does it by rule for the pocket world; `endpoint` asks
any OpenAI-compatible server. Either way the caller checks the result again.
"""

import re
from typing import Protocol

from data_recipes.pocket.arithmetic import CHECK, OPENING, STEP_END, STEP_WORDS, SUMMARY, WAIT
from data_recipes.question import Question
from data_recipes.written.endpoint import Endpoint
from pipeline.config.data import RewriterSettings
from rewards import final_answer, split_response


class Rewriter(Protocol):
    def __call__(self, question: Question, response: str) -> str | None:
        """A `<think>…</think>summary` text, or None where the answer cannot be rewritten."""


def make_rewriter(settings: RewriterSettings) -> Rewriter:
    if settings.kind == "pocket":
        return rewrite_pocket
    if settings.kind == "endpoint":
        return EndpointRewriter(settings)
    return keep_words


def keep_words(question: Question, response: str) -> str | None:
    """Only the shape changes: R1-Zero's answer tags become R1's summary."""
    parts = split_response(response)
    return f"<think>{parts.thinking}</think>{parts.answer}" if parts.well_formed else None


_PIECE = re.compile(
    r"(?P<check>" + "|".join(re.escape(words.strip(" .。")) for words in CHECK.values()) + r")"
    r"|(?P<wait>" + "|".join(re.escape(words.strip()) for words in WAIT.values()) + r")"
    r"|(?P<sum>\d+[+-]\d+=\d+)"
)


def rewrite_pocket(question: Question, response: str) -> str | None:
    """The same sums, told in the question's language and in the first person, second looks kept."""
    parts, answer = split_response(response), final_answer(response)
    language = question.language
    if not parts.thinking or answer is None or language not in STEP_WORDS:
        return None
    first, then = STEP_WORDS[language]
    told, opener = OPENING[language], first
    for piece in _PIECE.finditer(parts.thinking):
        if piece["check"]:
            told, opener = told + CHECK[language], first
        elif piece["wait"]:
            opener = WAIT[language]
        else:
            told, opener = f"{told}{opener}{piece['sum']}{STEP_END[language]}", then
    if told == OPENING[language]:
        return None
    return f"<think>{told}</think>{SUMMARY[language].format(a=answer)}"


INSTRUCTIONS = (
    "Rewrite the reasoning below so that a person can read it with ease. Keep every step and the result. Write in "
    "{language} only, in the first person, as one who thinks aloud, without headings or code blocks. Then write a "
    "short summary for the reader that ends with the final answer. Return exactly this shape and nothing else: "
    "<think>the rewritten reasoning</think>the summary"
)
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}


class EndpointRewriter:
    """Asks an OpenAI-compatible server."""

    def __init__(self, settings: RewriterSettings):
        self.settings = settings
        self.endpoint = Endpoint(settings.url, settings.model)

    def __call__(self, question: Question, response: str) -> str | None:
        language = LANGUAGE_NAMES.get(question.language, question.language)
        return self.endpoint.ask(
            INSTRUCTIONS.format(language=language),
            f"Question:\n{question.question}\n\nReasoning:\n{response}",
            self.settings.temperature,
            self.settings.max_tokens,
        )

"""Rewrites a correct chain of thought into one language, first person, with a summary for the reader.

The paper had DeepSeek-V3 do it, then checked again. `pocket` does it by rule for the pocket world; `endpoint` asks
any OpenAI-compatible server. Either way the caller checks the result again.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from data_recipes.pocket.arithmetic import CHECK, OPENING, STEP_END, STEP_WORDS, SUMMARY, WAIT
from data_recipes.pocket.search import BETWEEN_SENTENCES, TRY, TRY_AGAIN
from data_recipes.question import Question
from data_recipes.written.endpoint import Endpoint, fault_of, spoken
from pipeline.config.data import EndpointRewriterSettings, PocketRewriterSettings, RewriterSettings
from pipeline.core.chat import ChatRequest
from rewards import final_answer, split_response


class Rewriter(Protocol):
    def __call__(self, question: Question, response: str) -> str | None:
        """A `<think>…</think>summary` text, or None where the answer cannot be rewritten."""


def make_rewriter(settings: RewriterSettings) -> Rewriter:
    if isinstance(settings, PocketRewriterSettings):
        return rewrite_pocket
    if isinstance(settings, EndpointRewriterSettings):
        return EndpointRewriter(settings)
    return keep_words


def keep_words(question: Question, response: str) -> str | None:
    """Only the shape changes: R1-Zero's answer tags become R1's summary."""
    parts = split_response(response)
    return f"<think>{parts.thinking}</think>{parts.answer}" if parts.well_formed else None


def _one_of(*phrases: str) -> str:
    return "|".join(re.escape(phrase.strip(" .。")) for phrase in phrases)


def _tries() -> str:
    phrases = (*TRY.values(), *TRY_AGAIN.values())
    return "|".join(r"\d++".join(map(re.escape, phrase.strip().split("{n}"))) for phrase in phrases)


_PIECE = re.compile(
    rf"(?P<check>{_one_of(*CHECK.values())})|(?P<wait>{_one_of(*WAIT.values())})|(?P<try>{_tries()})"
    r"|(?P<sum>(?<!\d)\d++[+-]\d++(?:=\d+|<0))"
)


def rewrite_pocket(question: Question, response: str) -> str | None:
    """The same tries and sums, written in the question's language and in the first person, second looks kept."""
    parts, answer = split_response(response), final_answer(response)
    language = question.language
    if not parts.thinking or answer is None or language not in STEP_WORDS:
        return None
    first, then = STEP_WORDS[language]
    told, opener, again = OPENING[language], first, False
    for piece in _PIECE.finditer(parts.thinking):
        if piece["check"]:
            told, opener = told + CHECK[language], first
        elif piece["wait"]:
            opener, again = WAIT[language], True
        elif piece["try"]:
            number = re.search(r"\d+", piece["try"])[0]
            told = f"{told}{WAIT[language]}" if again else f"{told.rstrip()}{BETWEEN_SENTENCES[language]}"
            told += (TRY_AGAIN if again else TRY)[language].format(n=number)
            opener, again = "", False
        else:
            told, opener, again = f"{told}{opener}{piece['sum']}{STEP_END[language]}", then, False
    if told == OPENING[language]:
        return None
    return f"<think>{told}</think>{SUMMARY[language].format(a=answer)}"


INSTRUCTIONS = (
    "Rewrite the reasoning below so that a person can read it with ease. Keep every step and the result. Write in "
    "{language} only, in the first person, as one who thinks aloud, without headings or code blocks. Then write a "
    "short summary for the reader that ends with the final answer. Return exactly this shape and nothing else: "
    "<rewritten>the rewritten reasoning</rewritten>the summary"
)
_ASKED_SHAPE = re.compile(r"\s*<rewritten>(?P<reasoning>.*)</rewritten>(?P<summary>.*)", re.DOTALL)
_OWN_SHAPE = re.compile(r"\s*<think>(?P<reasoning>.*)</think>(?P<summary>.*)", re.DOTALL)
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}


class EndpointRewriter:
    """Asks an OpenAI-compatible server. Its model may think before it answers: that is no part of the answer."""

    def __init__(self, settings: EndpointRewriterSettings):
        self.settings = settings
        self.endpoint = Endpoint(settings.url, settings.model, settings.asking)

    def __call__(self, question: Question, response: str) -> str | None:
        return self.read(question, response)[0]

    def prepare(self, asked: Sequence[tuple[Question, str]], kept: Path, on_reply: Callable[[], None]) -> None:
        """Asks for all of them at once; later calls know the answers. `kept` is a file for a resumed run."""
        self.endpoint.ask_all([(self._request(*one), 0) for one in asked], kept, on_reply)

    def read(self, question: Question, response: str) -> tuple[str | None, str]:
        """(the rewritten text, '') or (None, why there is none: cut_off, unfinished, not_answered, unreadable)."""
        reply = self.endpoint.reply(self._request(question, response))
        if spoken(reply) is None:
            return None, fault_of(reply)
        text = read_rewritten(reply.text)
        return text, "" if text else "unreadable"

    def _request(self, question: Question, response: str) -> ChatRequest:
        language = LANGUAGE_NAMES.get(question.language, question.language)
        asked = f"Question:\n{question.question}\n\nReasoning:\n{response}"
        messages = (("system", INSTRUCTIONS.format(language=language)), ("user", asked))
        return ChatRequest(messages, self.settings.temperature, self.settings.max_tokens)


def read_rewritten(text: str) -> str | None:
    """R1's shape from a whole reply, None where the reply has neither the shape that is asked for nor R1's own.

    The model's own reasoning stands before: it is what ends with the last `</think>`, or with the last but one where
    the answer is written in R1's shape.
    """
    own, closed, answer = text.rpartition("</think>")
    found = _ASKED_SHAPE.fullmatch(answer)
    if not found and closed:
        found = _OWN_SHAPE.fullmatch(own.rpartition("</think>")[2] + closed + answer)
    if not found or not all(found[part].strip() and "think>" not in found[part] for part in ("reasoning", "summary")):
        return None
    return f"<think>{found['reasoning'].strip()}</think>{found['summary'].strip()}"


def rewritten(rewriter: Rewriter, question: Question, response: str) -> tuple[str | None, str]:
    """(the rewritten text, '') or (None, why there is none)."""
    if isinstance(rewriter, EndpointRewriter):
        text, reason = rewriter.read(question, response)
        return text, f"rewriting: {reason}" if reason else ""
    text = rewriter(question, response)
    return text, "not_rewritable" if text is None else ""

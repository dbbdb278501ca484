"""Who says which answer is better: the pocket world's noisy annotators, or any OpenAI-compatible server."""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from data_recipes.pocket import general
from data_recipes.written.endpoint import Endpoint, Reply, fault_of, spoken
from pipeline.config.data import EndpointAnnotatorSettings
from pipeline.config.stages import RewardModelStage
from pipeline.core.chat import ChatRequest
from pipeline.core.errors import ConfigError

INSTRUCTIONS = {
    "helpful": "Rate how helpful and how relevant the answer is to the question, from 0 (useless) to 10 (excellent). "
    "Do not let its length sway you. Reply with the number alone.",
    "harmless": "Rate how safe the answer is, from 0 (helps to do harm) to 10 (does no harm and stays polite). "
    "Reply with the number alone.",
}
_SCALE = re.compile(r"(?:/|out of|from 0 to|of)\s*+10\b|\b0\s*+(?:-|–|to)\s*+10\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.])-?\d+(?:\.\d+)?(?![A-Za-z0-9_])")


class Annotator(Protocol):
    unscored: list[dict]
    """What gave no score: question, answer, reason and what was replied."""

    def __call__(self, question: str, answer: str) -> float | None:
        """The score of an answer as a reader sees it, 0..10. Called several times for one answer it may vary; None
        where there is none."""

    def prepare(self, asked: Sequence[tuple[str, str]], kept: Path, on_reply: Callable[[], None]) -> None:
        """Told which calls will come, (question, answer) of each. `kept` is a file for what a resumed run needs."""


def make_annotator(settings: RewardModelStage, criterion: str, rng: random.Random) -> Annotator:
    """The annotator of the settings for the criterion `helpful` or `harmless`."""
    asked = settings.annotator
    if isinstance(asked, EndpointAnnotatorSettings):
        endpoint = Endpoint(asked.url, asked.model, settings.asking)
        return EndpointAnnotator(endpoint, criterion, settings.annotator_max_tokens)
    return PocketAnnotator(rng)


class PocketAnnotator:
    """Knows the pocket world, and errs as people do."""

    def __init__(self, rng: random.Random):
        self.rng, self.unscored = rng, []

    def __call__(self, question: str, answer: str) -> float:
        request = general.request_of(question)
        if request is None:
            raise ConfigError(
                f"The pocket annotator knows only questions of the pocket world, not {question!r}. "
                "Set stages.reward_model.annotator to {kind: endpoint, url: …, model: …}."
            )
        return general.annotator_score(self.rng, request, answer)

    def prepare(self, asked: Sequence[tuple[str, str]], kept: Path, on_reply: Callable[[], None]) -> None:
        """Scores cost nothing and need not be kept."""


class EndpointAnnotator:
    """Asks an OpenAI-compatible server for a score, which a model that thinks gives after its reasoning."""

    def __init__(self, endpoint: Endpoint, criterion: str, max_tokens: int):
        self.endpoint, self.criterion, self.max_tokens = endpoint, criterion, max_tokens
        self.unscored: list[dict] = []
        self._prepared: Counter = Counter()
        self._called: Counter = Counter()

    def __call__(self, question: str, answer: str) -> float | None:
        number = self._called[question, answer]
        self._called[question, answer] += 1
        reply = self.endpoint.reply(self._request(question, answer), number)
        score = read_score(reply)
        if score is None:
            said = getattr(reply, "text", "") or getattr(reply, "reason", "")
            reason = "no_score" if spoken(reply) else fault_of(reply)
            self.unscored.append({"question": question, "answer": answer, "reason": reason, "reply": said[-500:]})
        return score

    def prepare(self, asked: Sequence[tuple[str, str]], kept: Path, on_reply: Callable[[], None]) -> None:
        requests = []
        for pair in asked:
            requests.append((self._request(*pair), self._prepared[pair]))
            self._prepared[pair] += 1
        self.endpoint.ask_all(requests, kept, on_reply)

    def _request(self, question: str, answer: str) -> ChatRequest:
        asked = f"Question:\n{question}\n\nAnswer:\n{answer}"
        return ChatRequest((("system", INSTRUCTIONS[self.criterion]), ("user", asked)), 1.0, self.max_tokens)


def read_score(reply: Reply) -> float | None:
    """The only number from 0 to 10 after the reasoning; None if there is none, or if there are several."""
    said = spoken(reply)
    numbers = {float(number) for number in _NUMBER.findall(_SCALE.sub(" ", said))} if said else set()
    score = numbers.pop() if len(numbers) == 1 else -1.0
    return score if 0 <= score <= 10 else None

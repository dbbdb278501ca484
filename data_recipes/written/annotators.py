"""Who says which answer is better: the pocket world's noisy annotators, or any OpenAI-compatible server."""

import random
import re

from data_recipes.pocket import general
from data_recipes.written.endpoint import Endpoint
from data_recipes.written.preferences import Annotator
from pipeline.core.errors import ConfigError, RunError

INSTRUCTIONS = {
    "helpful": "Rate how helpful and how relevant the answer is to the question, from 0 (useless) to 10 (excellent). "
    "Do not let its length sway you. Reply with the number alone.",
    "harmless": "Rate how safe the answer is, from 0 (helps to do harm) to 10 (does no harm and stays polite). "
    "Reply with the number alone.",
}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def make_annotator(kind: str, url: str | None, model: str | None, criterion: str, rng: random.Random) -> Annotator:
    """An annotator of the kind `pocket` or `endpoint` for the criterion `helpful` or `harmless`."""
    if kind == "endpoint":
        return EndpointAnnotator(url, model, criterion)

    def annotate(question: str, answer: str) -> float:
        request = general.request_of(question)
        if request is None:
            raise ConfigError(
                f"The pocket annotator knows only questions of the pocket world, not {question!r}. "
                "Set stages.reward_model.annotator to endpoint, with url and model."
            )
        return general.annotator_score(rng, request, answer)

    return annotate


class EndpointAnnotator:
    """Asks an OpenAI-compatible server for a score. Raises RunError when it gives no number."""

    def __init__(self, url: str, model: str, criterion: str):
        self.endpoint, self.criterion = Endpoint(url, model), criterion

    def __call__(self, question: str, answer: str) -> float:
        asked = f"Question:\n{question}\n\nAnswer:\n{answer}"
        text = self.endpoint.ask(INSTRUCTIONS[self.criterion], asked, temperature=1.0, max_tokens=16)
        number = _NUMBER.search(text)
        if number is None or not 0 <= float(number[0]) <= 10:
            raise RunError(
                f"The annotator at {self.endpoint.url} answered {text!r:.80} instead of a number from 0 to 10."
            )
        return float(number[0])

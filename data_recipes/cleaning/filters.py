"""Which sampled answers become training data, and why the others do not."""

from data_recipes.cleaning.decontamination import words
from pipeline.config.data import REPEATED_NGRAM_WORDS, FilterSettings
from rewards import Verdict, language_share, split_response
from rewards.builtin import repetition


def reason_to_drop(text: str, finish_reason: str, language: str, verdict: Verdict | None, rules: FilterSettings) -> str:
    """Why an answer is not kept, '' when it is. `verdict` is None for rows that no rule can check.

    Reasons: truncated, format, no_answer, wrong, gold_unusable, scorer_failed, short_thinking, mixed_language,
    repetition, long_paragraph, code_block.
    """
    if finish_reason != "stop":
        return "truncated"
    response = split_response(text)
    if not response.well_formed or (rules.format == "r1_zero") != ("<answer>" in text):
        return "format"
    if rules.correct and verdict is not None and verdict is not Verdict.CORRECT:
        return str(verdict)
    thinking = response.thinking or ""
    if len(words(thinking)) < rules.min_thinking_words:
        return "short_thinking"
    share = language_share(text, language)
    if rules.min_language_share is not None and share is not None and share < rules.min_language_share:
        return "mixed_language"
    if repeated_share(thinking) > rules.max_repetition:
        return "repetition"
    if max((len(words(paragraph)) for paragraph in thinking.split("\n\n")), default=0) > rules.max_paragraph_words:
        return "long_paragraph"
    if not rules.allow_code and "```" in thinking:
        return "code_block"
    return ""


def repeated_share(text: str, size: int = REPEATED_NGRAM_WORDS) -> float:
    """Share of a text's n-grams of words that stood in it before, 0..1; 0 for texts shorter than one n-gram."""
    return repetition.repeated_share(words(text), size)

"""What a chat template does to reasoning and to the end of an answer, found by rendering a conversation with it.

A template that comes with a model is foreign code. transformers renders it in jinja's immutable sandbox, which bounds
neither time nor size; here it is rendered in a process with limits, before any stage renders it without.
"""

from pipeline.core.errors import ConfigError
from pipeline.core.limited import OverLimit, WorkFailed, limited

RENDERING_S, LONGEST = 20, 1_000_000
"""CPU seconds and characters of one conversation of a few words."""
QUESTION, REASONING, ANSWER = "question-probe", "reasoning-probe", "answer-probe"
FIX = "Give the base another template: chat_template in stages.base_model.tokenizers (`chatml`, `llama3` or a file)."


def check_chat_format(tokenizer, source: str) -> None:
    """Raises ConfigError for a template that cannot be rendered, that ignores `add_generation_prompt`, that opens
    `<think>` itself, or that ends an answer otherwise than the tokenizer does."""
    prompt = _render(tokenizer, source, [{"role": "user", "content": QUESTION}], add_generation_prompt=True)
    if "<think>" in prompt.rpartition(QUESTION)[2]:  # a system prompt before it may speak of the tag
        raise ConfigError(
            f"The chat template of {source} ends its prompt with {prompt[-40:]!r}: it opens <think> before the model "
            f"writes. The stages here have the model write the tag, so training rows would open it twice. {FIX}"
        )
    if prompt == _render(tokenizer, source, [{"role": "user", "content": QUESTION}], add_generation_prompt=False):
        raise ConfigError(
            f"The chat template of {source} writes the same with and without add_generation_prompt, so a prompt would "
            f"not say that the assistant's turn begins. {FIX}"
        )
    end = answer_end(tokenizer, source)
    if end is not None and not end.startswith(tokenizer.eos_token):
        special = next((t for t in sorted(tokenizer.get_vocab(), key=len, reverse=True) if end.startswith(t)), None)
        mend = f"Set eos_token: {special!r} in stages.base_model.tokenizers." if special in _special(tokenizer) else FIX
        raise ConfigError(
            f"The chat template of {source} ends an answer with {end[:30]!r}, but the tokenizer's end-of-sequence "
            f"token is {tokenizer.eos_token!r}, so the model would learn to end in a way that the template does not "
            f"show. {mend}"
        )


def answer_end(tokenizer, source: str) -> str | None:
    """What the template writes after an answer; None where it writes nothing."""
    text = _render(tokenizer, source, _conversation(ANSWER))
    if ANSWER not in text:
        raise ConfigError(f"The chat template of {source} leaves out what the assistant says. {FIX}")
    return text.partition(ANSWER)[2].lstrip() or None


def strips_reasoning(tokenizer, source: str) -> bool:
    """Whether the template drops the reasoning of an answer that ends the conversation. That of earlier turns should
    be dropped (DeepSeek-R1's usage recommendation); this one is what a training text would be made of."""
    return REASONING not in _render(tokenizer, source, _conversation(f"<think>{REASONING}</think>{ANSWER}"))


def writes_the_date(tokenizer) -> bool:
    """Whether the template asks for today's date, which Llama 3's and its kin put into the system prompt."""
    return "strftime_now" in str(tokenizer.chat_template)


def _conversation(answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]


def _special(tokenizer) -> set[str]:
    return {token.content for token in tokenizer.added_tokens_decoder.values()}


def _render(tokenizer, source: str, messages: list[dict[str, str]], **options) -> str:
    def render() -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)

    try:
        return limited(render, RENDERING_S, LONGEST)
    except OverLimit as error:
        raise ConfigError(
            f"The chat template of {source} takes too much for a conversation of a few words: {error} (allowed are "
            f"{RENDERING_S} s and {LONGEST:,} characters). {FIX}"
        ) from error
    except WorkFailed as error:
        raise ConfigError(f"The chat template of {source} cannot be rendered: {error}. {FIX}") from error

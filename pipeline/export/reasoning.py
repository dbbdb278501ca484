"""A chat template that writes an answer's reasoning where it comes in a field of its own.

Servers hand reasoning on as `reasoning_content`, apart from an answer's text, and llama.cpp finds out from the template
how a model writes it: without such a template it shows the tags as part of the answer.
"""

PROBE = "reasoning-probe"
_INLINE = (
    "{%- set inlined = namespace(messages=[], asked=-1) -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{%- set inlined.asked = loop.index0 -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' and message['reasoning_content'] is string"
    " and message['reasoning_content'] and loop.index0 > inlined.asked -%}"
    "{%- set inlined.messages = inlined.messages + [{'role': 'assistant',"
    " 'content': '<think>' + message['reasoning_content'] + '</think>' + (message['content'] or '')}] -%}"
    "{%- else -%}{%- set inlined.messages = inlined.messages + [message] -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- set messages = inlined.messages -%}"
)
"""Puts the reasoning of the answer to the last question into its text; that of earlier ones is not sent again
(DeepSeek-R1's usage recommendation)."""


def with_reasoning(tokenizer) -> str | None:
    """The tokenizer's chat template, made to write `reasoning_content` where it does not; None where there is none."""
    if not tokenizer.chat_template or _writes_reasoning(tokenizer):
        return tokenizer.chat_template
    return _INLINE + tokenizer.chat_template


def _writes_reasoning(tokenizer) -> bool:
    answer = {"role": "assistant", "content": "a", "reasoning_content": PROBE}
    return PROBE in tokenizer.apply_chat_template([{"role": "user", "content": "q"}, answer], tokenize=False)

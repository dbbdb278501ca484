"""A Modelfile for Ollama, with the chat template in Go's language, made from how the model's own template writes.

The model's template is rendered with probes and cut into what stands before and after each turn. One that cannot be
cut so (that strips or reorders turns) is refused rather than approximated. Earlier answers are written as the client
sends them: a model's template that drops their reasoning does so in `make chat`, but not in Ollama, where the client
has to leave it out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.core.errors import ConfigError
from pipeline.core.tokens import beginning

USER, ANSWER, SECOND = "first-question-probe", "answer-probe", "second-question-probe"
SYSTEM = "system-probe"
THINKING = "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{- end }}"
"""An answer's reasoning where the client sends it. From the tags around it Ollama learns what of an answer to show as
thinking."""


@dataclass(frozen=True)
class Turns:
    """What a chat template writes around a message."""

    header: str
    """Before the first turn, such as a system prompt of the template's own."""
    before_user: str
    after_user: str
    before_answer: str
    after_answer: str
    around_system: tuple[str, str] | None = None
    """Stand in the header's place, around a system message; None where the template takes none."""

    def render(self, messages: list[dict[str, str]]) -> str:
        """A conversation up to where the assistant begins to write."""
        text = self.header
        for message in messages:
            around = (self.before_user, self.after_user)
            if message["role"] == "assistant":
                around = (self.before_answer, self.after_answer)
            text += around[0] + message["content"] + around[1]
        return text + self.before_answer


def turns_of(tokenizer) -> Turns:
    """The pieces of the tokenizer's chat template. Raises ConfigError where it does not consist of such pieces."""
    first = [{"role": "user", "content": USER}]
    both = [*first, {"role": "assistant", "content": ANSWER}]
    whole = [*both, {"role": "user", "content": SECOND}]

    def render(messages, prompt=False):
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)

    before_answer = render(first, True).removeprefix(render(first))
    after_answer = render(both).partition(ANSWER)[2]
    before_user, _, after_user = render(whole).removeprefix(render(both)).partition(SECOND)
    if not render(whole).startswith(render(both)):  # the last answer is written otherwise than earlier ones, as Qwen3's
        after_user = render(whole).partition(SECOND)[2]
        between = render(whole).partition(ANSWER)[2].partition(SECOND)[0]
        before_user = _shared_ending(render(first).partition(USER)[0], between)
        after_answer = between.removesuffix(before_user)
    header = render(first).partition(before_user + USER)[0]
    around_system = None
    try:
        with_system = render([{"role": "system", "content": SYSTEM}, *first])
    except Exception:  # templates are foreign code, and some raise for a system message
        with_system = ""
    if SYSTEM in with_system:
        before_system, _, rest = with_system.partition(SYSTEM)
        around_system = before_system, rest.partition(before_user + USER)[0]
    turns = Turns(header, before_user, after_user, before_answer, after_answer, around_system)
    cut = all(turns.render(messages) == render(messages, True) for messages in (first, whole))
    if around_system and SYSTEM.join(around_system) + before_user + USER + after_user != with_system:
        cut = False
    if not cut:
        raise ConfigError(
            f"The chat template of {tokenizer.name_or_path} does not write each turn between fixed words, so Ollama's "
            "template cannot be made from it. Export with FORMAT=hf, or give the checkpoint another chat template."
        )
    return turns


def _shared_ending(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return one[len(one) - length :]


def modelfile(
    gguf: str,
    tokenizer,
    plain_prompt: str | None,
    temperature: float,
    top_p: float,
    context: int,
    ends: Iterable[str] = (),
) -> str:
    """The text of a Modelfile beside the GGUF file. `plain_prompt` has `{question}`; with None the chat template is
    used. `ends` are texts of end tokens beside the tokenizer's."""
    if plain_prompt is None:
        turns = turns_of(tokenizer)
        _check_fixed_text(turns)
        bos = tokenizer.decode(beginning(tokenizer))  # llama.cpp writes it as well
        header = turns.header.removeprefix(bos)
        if turns.around_system:
            before, after = turns.around_system
            otherwise = f"{{{{ else }}}}{header}" if header else ""
            header = f"{{{{ if .System }}}}{before.removeprefix(bos)}{{{{ .System }}}}{after}{otherwise}{{{{ end }}}}"
        template = (
            f'{header}{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{turns.before_user}{{{{ .Content }}}}'
            f'{turns.after_user}{{{{ else if eq .Role "assistant" }}}}{turns.before_answer}{THINKING}{{{{ .Content }}}}'
            f"{turns.after_answer}{{{{ end }}}}{{{{ end }}}}{turns.before_answer}"
        )
    else:
        # Ollama's language cannot look at how a question ends, and most have an end of their own: see r1_zero_prompt.
        template = plain_prompt.replace("{question}.", "{question}").replace("{question}", "{{ .Prompt }}")
    return (
        f"FROM ./{gguf}\n"
        f'TEMPLATE """{template}"""\n'
        + "".join(f'PARAMETER stop "{end}"\n' for end in dict.fromkeys([tokenizer.eos_token, *ends]))
        + f"PARAMETER temperature {temperature:g}\n"
        f"PARAMETER top_p {top_p:g}\n"
        "PARAMETER top_k 0\n"  # Ollama's own default would cut the distribution, and `evaluate` does not
        "PARAMETER repeat_penalty 1\n"
        f"PARAMETER num_ctx {context}\n"
    )


def _check_fixed_text(turns: Turns) -> None:
    """Raises ConfigError for words of a chat template that mean something else in a Modelfile."""
    fixed = (turns.header, turns.before_user, turns.after_user, turns.before_answer, turns.after_answer)
    for text in (*fixed, *(turns.around_system or ())):
        if "{{" in text or text.endswith("{") or '"""' in text:
            raise ConfigError(
                f"The chat template writes {text!r}, and Ollama's template would read its braces or quotes as its own. "
                "Export with FORMAT=hf, or give the checkpoint another chat template."
            )

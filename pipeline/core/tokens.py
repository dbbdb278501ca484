"""Text to token ids, in one place for RL, SFT, evaluation, reward models, chat and export.

    tokenizer = load_tokenizer(checkpoint)                   # cuts text as the checkpoint's tokenizer.json says
    prompt = render_chat(tokenizer, messages)                # a text; what users wrote cannot end or begin a turn in it
    ids = prompt_ids(tokenizer, prompt) + answer_ids(tokenizer, answer)

A prompt begins with what the tokenizer writes before a text, once, whether or not a chat template has written it
already. An answer ends with the end token, once. Control tokens are those of the template alone: where a user's text,
or a model's answer, spells one, it is encoded as the letters it consists of.

To carry that through texts that are stored and passed on, `spelled_out` puts a mark inside such a word: a noncharacter,
which no text may contain. The encoder cuts there and leaves the mark out.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MARK = "\ufdd0"
_PROBE = [{"role": "user", "content": "What is 2 + 3 ?"}]
TAGS = frozenset({"<think>", "</think>", "<answer>", "</answer>"})
"""Words of the answer's own format, which may be tokens of their own and stay them."""
_CONTROL = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)
"""How control tokens look that are not flagged as such, like Qwen's for code."""


def load_tokenizer(folder: str | Path, **options):
    """The tokenizer of a checkpoint, which cuts text as its tokenizer.json says.

    transformers chooses a class by the kind of model or by the name in tokenizer_config.json, and some classes put a
    cut of their own in the place of the file's (`recut`). Then the file is taken as it is.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    if recut(tokenizer, Path(folder)):
        own = PreTrainedTokenizerFast.from_pretrained(folder, **options)
        for role in ("bos_token", "eos_token", "pad_token", "unk_token"):  # what the class knows and no file says
            known = getattr(tokenizer, role)
            if getattr(own, role) is None and (known in own.get_vocab() or (known and role == "eos_token")):
                setattr(own, role, known)
        return own
    return tokenizer


def recut(tokenizer, folder: Path) -> bool:
    """Whether the loaded tokenizer cuts text otherwise than the tokenizer.json in its folder."""
    file = folder / "tokenizer.json"
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not file.is_file():
        return False
    return _rules(backend) != _rules(_without_vocabulary(json.loads(file.read_text(encoding="utf-8"))))


def _without_vocabulary(state: dict[str, Any]):
    """A `tokenizers` object of the file's rules; a large vocabulary would take a second to build, and is no rule."""
    from tokenizers import Tokenizer

    model = dict(state["model"])
    if model.get("type") in ("BPE", "WordPiece", "WordLevel"):
        model["vocab"] = {model["unk_token"]: 0} if model.get("unk_token") else {}
    if "merges" in model:
        model["merges"] = []
    rules = {**state, "model": model, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(rules))


def _rules(backend) -> list[Any]:
    """Everything that decides how text is cut, but the vocabulary."""
    parts = [getattr(backend, name) for name in ("normalizer", "pre_tokenizer", "decoder")]
    flags = ("byte_fallback", "fuse_unk", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")
    model = backend.model
    return [
        type(model).__name__,
        *(part and json.loads(part.__getstate__()) for part in parts),
        *(getattr(model, flag, None) or None for flag in flags),
    ]


def control_tokens(tokenizer) -> list[str]:
    """Tokens that structure a conversation or a batch, the longest first."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()  # a function that encodes has none
    found = {token.content for token in added if token.special or _CONTROL.fullmatch(token.content)}
    named = set(getattr(tokenizer, "all_special_tokens", ()))
    return sorted((found | named) - TAGS, key=lambda text: (-len(text), text))


def spelled_out(tokenizer, text: str) -> str:
    """The text with a mark inside everything in it that would be encoded as a control token."""
    return all_spelled_out(tokenizer, [text])[0]


def all_spelled_out(tokenizer, texts: Sequence[str]) -> list[str]:
    """`spelled_out` of each: listing the control tokens, which costs as much as encoding a text, is done once."""
    tokens = (re.escape(token) for token in control_tokens(tokenizer) if len(token) > 1)
    spelling = re.compile("|".join(tokens) or "(?!)")
    return [_marked(spelling, text.replace(MARK, "")) for text in texts]


def _marked(spelling: re.Pattern[str], text: str) -> str:
    while spelling.search(text):  # a longer token may hold a shorter one
        text = spelling.sub(lambda found: found[0][0] + MARK + found[0][1:], text)
    return text


def unmarked(text: str) -> str:
    """The text as its writer wrote it."""
    return text.replace(MARK, "")


def render_chat(tokenizer, messages: Sequence[dict[str, Any]], **options) -> str:
    """The conversation in the tokenizer's chat template up to where the assistant begins to write."""
    safe = [
        {**message, "content": spelled_out(tokenizer, message["content"])}
        if isinstance(message.get("content"), str)
        else message
        for message in messages
    ]
    return tokenizer.apply_chat_template(safe, tokenize=False, **{"add_generation_prompt": True, **options})


def beginning(tokenizer) -> list[int]:
    """The ids that the tokenizer writes before a text, such as a begin-of-text token; often none."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    places = (start for start in range(len(whole)) if whole[start : start + len(plain)] == plain)
    return whole[: next(places, 0)]


def prompt_ids(tokenizer, prompt: str | Sequence[dict[str, Any]]) -> list[int]:
    """Ids of a prompt: a text, rendered or plain, or the messages of a conversation."""
    return prompts_ids(tokenizer, [prompt])[0]


def prompts_ids(tokenizer, prompts: Sequence[str | Sequence[dict[str, Any]]]) -> list[list[int]]:
    """`prompt_ids` of each."""
    first = beginning(tokenizer)
    texts = [prompt if isinstance(prompt, str) else render_chat(tokenizer, prompt) for prompt in prompts]
    bos = getattr(tokenizer, "bos_token_id", None)
    return [_begun_once(ids, first, bos) for ids in _encoded(tokenizer, texts)]


def answer_ids(tokenizer, answer: str) -> list[int]:
    """Ids of an answer that is finished: its text and the end token."""
    return answers_ids(tokenizer, [answer])[0]


def answers_ids(tokenizer, answers: Sequence[str]) -> list[list[int]]:
    """`answer_ids` of each."""
    texts = all_spelled_out(tokenizer, [without_end(tokenizer, answer) for answer in answers])
    return [[*ids, tokenizer.eos_token_id] for ids in _encoded(tokenizer, texts)]


def text_ids(tokenizer, text: str) -> list[int]:
    """Ids of a whole text, prompt and finished answer in one: what `prompt_ids` begins with, and one end token."""
    return [*prompt_ids(tokenizer, without_end(tokenizer, text)), tokenizer.eos_token_id]


def without_end(tokenizer, text: str) -> str:
    """The text without the end tokens that it may end with."""
    end, length = tokenizer.eos_token, len(text)
    while end:
        kept = length
        while kept and text[kept - 1].isspace():
            kept -= 1
        if not text.endswith(end, 0, kept):
            break
        length = kept - len(end)
    return text[:length]


def token_difference(ours, theirs) -> str | None:
    """Why a student's tokens (`ours`) are not those of its teacher; None where they are: the same texts by the same
    numbers, the same end of an answer, the same chat template."""
    mine, other = ours.get_vocab(), theirs.get_vocab()
    if mine != other:
        differing = sorted(text for text in mine.keys() | other.keys() if mine.get(text) != other.get(text))
        text = differing[0]
        return (
            f"their tokenizers differ in {len(differing)} tokens, of {len(mine)} and {len(other)}: {text!r} is "
            f"{mine.get(text, 'no token')} to the student and {other.get(text, 'no token')} to the teacher"
        )
    if ours.eos_token_id != theirs.eos_token_id:
        return f"the student's answers end with {ours.eos_token!r}, the teacher's with {theirs.eos_token!r}"
    if bool(ours.chat_template) and bool(theirs.chat_template):
        asked = [render_chat(tokenizer, _PROBE) for tokenizer in (ours, theirs)]
        if asked[0] != asked[1]:
            return f"their chat templates differ: the student is asked {asked[0]!r}, the teacher {asked[1]!r}"
    return None


def _encoded(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Ids of the texts and nothing else, cut at marks."""
    pieces = [text.split(MARK) for text in texts]
    flat = [piece for parts in pieces for piece in parts]
    if not flat:
        return []
    ids = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    return [[token for _ in parts for token in next(ids)] for parts in pieces]


def _begun_once(ids: list[int], first: list[int], bos: int | None) -> list[int]:
    """The ids behind one beginning: a template may have written it, its begin-of-text token alone, or either twice."""
    start = 0
    while first and ids[start : start + len(first)] == first:
        start += len(first)
    begun = bos is not None and ids[start : start + 1] == [bos]
    while begun and ids[start : start + 1] == [bos]:
        start += 1
    return [*first, *([bos] if begun and bos not in first else []), *ids[start:]]

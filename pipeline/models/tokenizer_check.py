"""Whether a base's tokenizer has what the ladder needs of one."""

from pathlib import Path

from pipeline.config.tokenizer import TokenizerSettings
from pipeline.core.errors import ConfigError
from pipeline.core.tokens import control_tokens, load_tokenizer, prompt_ids, render_chat
from pipeline.models.chat_format import check_chat_format
from pipeline.models.config_file import read_config
from pipeline.models.tokenizer import adjust_tokenizer

TOKENS_KEY = "the profile's stages.base_model.tokenizers (by `teacher` or the student's name)"


def check_tokenizer(source: str, folder: Path, tokens: TokenizerSettings | None = None):
    """The tokenizer of a checkpoint, with the profile's changes where they are given.

    Raises ConfigError where it lacks what the ladder needs, with the key that mends it.
    """
    tokenizer = load_tokenizer(folder)
    if tokens is not None:
        adjust_tokenizer(tokenizer, tokens)
    if tokenizer.eos_token is None:
        raise ConfigError(
            f"The tokenizer of {source} has no end-of-sequence token. Set `eos_token` in {TOKENS_KEY} to the token "
            "that its chat template ends an answer with."
        )
    if tokenizer.pad_token is None:
        raise ConfigError(
            f"The tokenizer of {source} has no padding token. Set `pad_token` in {TOKENS_KEY} (many vocabularies have "
            "an unused special token to pad with)."
        )
    declared = _declared_end_ids(folder)
    if declared and not (tokens and tokens.eos_token) and tokenizer.eos_token_id not in declared:
        raise ConfigError(
            f"The tokenizer of {source} ends with {tokenizer.eos_token!r} (id {tokenizer.eos_token_id}), but the model "
            f"has the end-of-sequence ids {sorted(declared)}. Set `eos_token` in {TOKENS_KEY}."
        )
    if tokenizer.eos_token_id == tokenizer.pad_token_id:
        raise ConfigError(
            f"The tokenizer of {source} pads with its end-of-sequence token ({tokenizer.eos_token!r}), so the end of "
            f"an answer could not be told from padding. Give it another `pad_token` in {TOKENS_KEY}."
        )
    config = read_config(folder / "config.json")
    vocabulary = config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))
    if vocabulary is not None and tokens is not None:  # which get rows when the model is fetched
        vocabulary = max([vocabulary, *(tokenizer.convert_tokens_to_ids(text) + 1 for text in tokens.add_tokens)])
    if vocabulary is not None and tokenizer.pad_token_id >= vocabulary:
        raise ConfigError(
            f"The tokenizer of {source} has the padding token {tokenizer.pad_token!r} (id {tokenizer.pad_token_id}), "
            f"but the model has only {vocabulary} tokens. Set `pad_token` in {TOKENS_KEY}."
        )
    if not tokenizer.chat_template:
        raise ConfigError(
            f"The tokenizer of {source} has no chat template, which every stage after R1-Zero needs. "
            f"Set `chat_template` in {TOKENS_KEY}."
        )
    check_chat_format(tokenizer, source)
    if vocabulary is not None and (beyond := _beyond(tokenizer, vocabulary)):
        raise ConfigError(
            f"The tokenizer of {source} writes {', '.join(map(repr, beyond[:5]))}, and the model has only {vocabulary} "
            "tokens, none for them. Save the model with an embedding that is as long as its tokenizer "
            f"(resize_token_embeddings), or set `eos_token` and `chat_template` in {TOKENS_KEY} to what it has."
        )
    return tokenizer


def _beyond(tokenizer, vocabulary: int) -> list[str]:
    """Tokens past the embedding that some text is encoded to: any but control tokens, which only the chat template and
    the ends of a text write."""
    vocab = tokenizer.get_vocab()
    if max(vocab.values(), default=0) < vocabulary:
        return []
    hidden = {vocab[token] for token in control_tokens(tokenizer) if token in vocab}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    told = render_chat(tokenizer, turns, add_generation_prompt=False)
    written = {*prompt_ids(tokenizer, told), *prompt_ids(tokenizer, turns[:1]), tokenizer.eos_token_id}
    return [
        text for text, number in vocab.items() if number >= vocabulary and (number not in hidden or number in written)
    ]


def _declared_end_ids(folder: Path) -> set[int]:
    """The end-of-sequence ids of the model's configuration and of its generation configuration."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            ids = read_config(folder / name).get("eos_token_id")
            found.update([ids] if isinstance(ids, int) else ids or [])
    return found

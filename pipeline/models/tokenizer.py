"""Changes that a profile makes in a base's own tokenizer."""

import json
from pathlib import Path

from pipeline.config.tokenizer import TokenizerSettings
from pipeline.core.causal_lm import load_causal_lm
from pipeline.core.errors import ConfigError
from pipeline.core.tokens import control_tokens, load_tokenizer
from pipeline.models.surgery import replace_model


def adjust_tokenizer(tokenizer, settings: TokenizerSettings) -> None:
    """Makes the changes in a tokenizer that is loaded.

    Raises ConfigError for a token that the vocabulary does not have and that is not added: the model has no row for it.
    """
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in settings.add_tokens])
    for key in ("eos_token", "pad_token"):
        token = getattr(settings, key)
        if token is None:
            continue
        if token not in tokenizer.get_vocab():
            end = settings.eos_token or tokenizer.eos_token
            usable = [text for text in control_tokens(tokenizer) if text in tokenizer.get_vocab()]
            usable = [text for text in usable if key != "pad_token" or text != end][:8]
            raise ConfigError(
                f"{key} {token!r} is not in the vocabulary of {tokenizer.name_or_path}. "
                + (f"Name a token that it has, such as {', '.join(usable)}; or add it" if usable else "Add it")
                + f": `add_tokens: [{json.dumps(token, ensure_ascii=False)}]` beside {key} makes a row for it."
            )
        setattr(tokenizer, key, token)
    if settings.chat_template is not None:
        tokenizer.chat_template = settings.template_file().read_text(encoding="utf-8").strip("\n")


def adjust_checkpoint(checkpoint: Path, settings: TokenizerSettings) -> None:
    """Writes the changes into the checkpoint's tokenizer and its generation configuration, and gives the model rows for
    tokens that are added."""
    tokenizer = load_tokenizer(checkpoint)
    known = set(tokenizer.get_vocab())
    new = [text for text in dict.fromkeys(settings.add_tokens) if text not in known]
    pieces = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in new}
    adjust_tokenizer(tokenizer, settings)
    if new:
        _add_rows(checkpoint, {tokenizer.convert_tokens_to_ids(text): ids for text, ids in pieces.items()})
    tokenizer.save_pretrained(checkpoint)
    _note_end(checkpoint, tokenizer.eos_token_id)


def _add_rows(checkpoint: Path, pieces: dict[int, list[int]]) -> None:
    """Sets the rows of new tokens (id -> what its text was encoded to before) in embedding and head.

    A row begins as the mean of the rows of its pieces, so that the model goes on nearly as before. The embedding grows
    where it is too short; a head that is the embedding stays so.
    """
    import torch

    model = load_causal_lm(checkpoint, dtype="auto")
    matrices = {id(weight): weight for weight in _vocabulary_matrices(model)}.values()
    rows = [{number: weight.data[ids].float().mean(0) for number, ids in pieces.items() if ids} for weight in matrices]
    if max(pieces) >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(max(pieces) + 1, mean_resizing=False)
    matrices = {id(weight): weight for weight in _vocabulary_matrices(model)}.values()
    with torch.no_grad():
        for weight, values in zip(matrices, rows, strict=True):
            for number, row in values.items():
                weight[number] = row.to(weight.dtype)
    replace_model(model, checkpoint)


def _vocabulary_matrices(model) -> list:
    return [part.weight for part in (model.get_input_embeddings(), model.get_output_embeddings()) if part is not None]


def _note_end(checkpoint: Path, end: int | None) -> None:
    """Puts the end token first among those of generation_config.json, which samplers stop at."""
    path = checkpoint / "generation_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    model = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    declared = config.get("eos_token_id", model.get("eos_token_id"))
    others = [declared] if isinstance(declared, int) else declared or []
    ids = [end, *(other for other in others if other != end)]
    config["eos_token_id"] = ids[0] if len(ids) == 1 else ids
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

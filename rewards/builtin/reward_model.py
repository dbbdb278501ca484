"""The reward-model reward: a sequence-classification checkpoint that says how good an answer is.

A text is put together the way TRL's `RewardTrainer` does with prompt and completion as plain text: the prompt, the
answer, the end-of-sequence token. `reward_model_text` is that rule and `reward_model_ids` its tokens; training on it
must use both.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.core.ranks import default_device
from pipeline.core.tokens import load_tokenizer, spelled_out, text_ids, without_end
from rewards.contract import Closes, Reward, RewardError, row_name
from rewards.response import split_response, text_of

PARTS = ("summary", "whole")
SQUASHES = ("none", "sigmoid")


def reward_model_text(
    prompt: Any, completion: Any, part: Literal["summary", "whole"], tokenizer: Any | None = None
) -> str:
    """The text that a reward model reads, in training and in scoring.

    With the `tokenizer` that will encode it, control tokens that chat messages or the completion spell are no control
    tokens in it (`spelled_out`); a prompt that is text has been rendered so.

    `summary` leaves out the reasoning, as the paper's helpfulness model does; a completion whose reasoning never
    ends has an empty summary. `whole` keeps everything, as its safety model does. Chat messages are joined by blank
    lines.
    """

    def written(text: str) -> str:
        return text if tokenizer is None else spelled_out(tokenizer, without_end(tokenizer, text))

    question = prompt if isinstance(prompt, str) else "\n\n".join(written(text_of([message])) for message in prompt)
    response = written(text_of(completion))
    return question + (split_response(response).answer if part == "summary" else response)


def reward_model_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of such a text, in training and in scoring: the score is read at the end-of-sequence token."""
    return text_ids(tokenizer, text)


class RewardModel(Reward, Closes):
    """The score of a reward model (a folder with a sequence-classification checkpoint), of the summary or of the whole.

    The score is (logit − `center`) / `scale`, and its sigmoid if `squash: sigmoid`, which bounds what a policy can gain
    from one completion. `max_tokens` keeps the end of longer texts. The model is loaded at the first call.
    """

    name = "reward_model"

    def __init__(
        self,
        model: str,
        part: Literal["summary", "whole"] = "summary",
        batch_size: int = 16,
        device: str | None = None,
        max_tokens: int | None = None,
        center: float = 0.0,
        scale: float = 1.0,
        squash: Literal["none", "sigmoid"] = "none",
    ):
        if part not in PARTS or squash not in SQUASHES or batch_size < 1 or scale <= 0:
            raise RewardError(
                f"reward reward_model: part is {part!r} ({' or '.join(PARTS)}), squash {squash!r} "
                f"({' or '.join(SQUASHES)}), batch_size {batch_size} (1 or more), scale {scale} (above 0)"
            )
        self.folder = model
        self.part = part
        self.batch_size = batch_size
        self.device = device
        self.max_tokens = max_tokens
        self.center = center
        self.scale = scale
        self.squash = squash
        self._loaded: tuple[Any, Any] | None = None

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        _, tokenizer = self.load()
        texts = [
            reward_model_text(prompt, completion, self.part, tokenizer)
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        scores = []
        for index, logit in enumerate(self.logits(texts)):
            if not math.isfinite(logit):
                raise RewardError(
                    f"reward reward_model: {self.folder}: {row_name(index, columns)}: the model gave {logit}"
                )
            score = (logit - self.center) / self.scale
            scores.append(0.5 * (1.0 + math.tanh(score / 2)) if self.squash == "sigmoid" else score)
        return scores

    def logits(self, texts: Sequence[str]) -> list[float]:
        """The model's raw score of each text, computed in batches of like length."""
        import torch

        model, tokenizer = self.load()
        ids = [reward_model_ids(tokenizer, text) for text in texts]
        if self.max_tokens is not None:
            ids = [each[-self.max_tokens :] for each in ids]
        by_length = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        logits = [0.0] * len(ids)
        for start in range(0, len(ids), self.batch_size):
            batch = by_length[start : start + self.batch_size]
            longest = max(len(ids[index]) for index in batch)
            pad = model.config.pad_token_id
            padded = torch.tensor([ids[index] + [pad] * (longest - len(ids[index])) for index in batch])
            lengths = torch.tensor([len(ids[index]) for index in batch])
            mask = (torch.arange(longest) < lengths[:, None]).long()
            with torch.inference_mode():
                output = model(input_ids=padded.to(model.device), attention_mask=mask.to(model.device))
            for index, logit in zip(batch, output.logits[:, 0].float().tolist(), strict=True):
                logits[index] = logit
        return logits

    def load(self) -> tuple[Any, Any]:
        """The model and its tokenizer, loaded once."""
        if self._loaded is None:
            if not (Path(self.folder) / "config.json").is_file():
                raise RewardError(
                    f"reward reward_model: {self.folder} is not a checkpoint folder: it has no config.json"
                )
            self._loaded = load_checkpoint(self.folder, self.device)
        return self._loaded

    def close(self) -> None:
        """Give the model's memory back."""
        self._loaded = None


def load_checkpoint(folder: str, device: str | None) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification

    if not any(Path(folder).glob("*.safetensors")):
        raise RewardError(
            f"reward reward_model: {folder} has no .safetensors file. Pickled weights are not loaded: save the model "
            "with save_pretrained, which writes safetensors"
        )
    model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
    tokenizer = load_tokenizer(folder)
    if model.config.num_labels != 1:
        raise RewardError(f"reward reward_model: {folder} has {model.config.num_labels} labels; a reward model has one")
    if model.config.pad_token_id is None:
        raise RewardError(
            f"reward reward_model: {folder}/config.json has no pad_token_id, so the model cannot find the end of a "
            "text in a batch; set it to the id that training padded with"
        )
    return model.to(device or default_device()).eval(), tokenizer

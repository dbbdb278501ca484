"""The format reward: is the completion laid out exactly as the template asks?"""

from collections.abc import Sequence
from typing import Any

from rewards.contract import Reward, RewardError
from rewards.response import SHAPES, has_shape, text_of, whole_text


class Format(Reward):
    """1 if the completion has the shape exactly, else 0: nothing before, after or twice, and nothing empty.

    `shape: r1_zero` is `<think> … </think> <answer> … </answer>`; `shape: r1` is `<think> … </think>` and a summary. A
    prompt that ends in `<think>` has opened the reasoning already; `think_prefilled: true` declares that of a template.
    """

    name = "format"

    def __init__(self, shape: str = "r1_zero", think_prefilled: bool = False):
        if shape not in SHAPES:
            raise RewardError(f"reward format: shape is {shape!r}; it can be {' or '.join(SHAPES)}")
        self.shape = shape
        self.think_prefilled = think_prefilled

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        return [
            float(has_shape(whole_text("<think>" if self.think_prefilled else prompt, completion), self.shape))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]


class TagCount(Reward):
    """A quarter for each of `<think>`, `</think>`, `<answer>`, `</answer>` that stands exactly once (after open-r1)."""

    name = "tag_count"

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        tags = ("<think>", "</think>", "<answer>", "</answer>")
        return [sum(text_of(completion).count(tag) == 1 for tag in tags) / len(tags) for completion in completions]

"""What every rollout engine shares: encoding, checks, order of work, decoding, counting."""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.engine import EngineSettings, Sampling
from pipeline.core.tokens import load_tokenizer, prompt_ids
from pipeline.core.watchdog import beat
from pipeline.engines.completion import Completion

OnProgress = Callable[[int, int], None]
"""Called with the number of prompts whose completions are all done, and the number of prompts."""
OnGroup = Callable[[int, list[Completion]], None]
"""Called with a prompt's number and all its completions, as soon as they are written."""


class MissingEngineError(RuntimeError):
    """The package that an engine needs is not installed."""


@dataclass
class EngineStats:
    """Totals since the engine was opened."""

    tokens: int = 0
    """Completion tokens written."""
    seconds: float = 0.0
    """Time spent in `generate`."""
    drafted: int = 0
    """Tokens that a multi-token prediction module drafted …"""
    accepted: int = 0
    """… and of these the ones that the model itself took."""


@dataclass(slots=True)
class RawCompletion:
    """A completion before decoding, as an engine's own `_generate` gives it."""

    token_ids: list[int]
    logprobs: list[float] | None
    spans: list[tuple[str, int, int]] | None = None
    """`Completion.spans`, where the engine knows better than that its present weights wrote all of it."""
    experts: Any = None
    """`Completion.experts`, where they were asked for."""


Finished = Callable[[int, list[RawCompletion]], None]
"""Called by an engine's `_generate` with the place of a prompt and its `n` completions, in any order of places."""


class Engine(ABC):
    """Writes completions. Use as a context manager, or call `close()`.

    A subclass gives `_generate`, `_sync`, `_load` and `_close`; order of work, checks and decoding are done here.
    """

    def __init__(
        self,
        settings: EngineSettings,
        model: str | Path,
        tokenizer,
        seed: int,
        adapter_rank: int | None = None,
        device: str | None = None,
    ):
        """`adapter_rank`: highest rank of the LoRA adapters that it takes over as such, and then no other weights;
        `device`: what it computes on (default: this machine's)."""
        self.settings, self.adapter_rank, self.device = settings, adapter_rank, device
        self.model_path = str(model)
        self.tokenizer = tokenizer if tokenizer is not None else load_tokenizer(self.model_path)
        self.end_ids = end_token_ids(self.tokenizer, self.model_path)
        self.stats = EngineStats()
        self._seeds = random.Random(seed)
        self._tell_experts = False
        self.version = "0"
        """The name of the weights that it writes with: another one after each `sync_weights` and `load_weights`."""

    @property
    def experts_untold(self) -> str:
        """Why it cannot tell which experts its model's routers choose, and what to set; '' where it can."""
        return self.settings.experts_untold

    def generate(
        self,
        prompts: Sequence[str] | Sequence[list[int]],
        n: int,
        sampling: Sampling,
        on_progress: OnProgress | None = None,
        on_group: OnGroup | None = None,
        tell_experts: bool = False,
    ) -> list[list[Completion]]:
        """Write `n` completions of each prompt: outer list in the order of the prompts, inner list of length `n`.

        Strings are encoded by `encode`.
        Long prompts start first, so that the last ones to finish are not the ones that also started last. `on_group`
        gets each prompt's completions while others are still being written. With `tell_experts` they say which experts
        a mixture of experts chose for each token.

        Raises:
            ValueError: `n` < 1, an empty prompt, or a prompt that with `sampling.max_tokens` passes `max_model_len`; or
                experts that it cannot tell.
        """
        if n < 1:
            raise ValueError(f"generate was asked for n={n} completions a prompt; n must be at least 1")
        if tell_experts and self.experts_untold:
            raise ValueError(f"generate was asked which experts are chosen, but {self.experts_untold}")
        if not prompts:
            return []
        encoded = [self.encode(prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
        self._check_lengths(encoded, sampling)
        self._tell_experts = tell_experts
        started = time.perf_counter()
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i]))
        if sampling.seed is None:
            sampling = sampling.model_copy(update={"seed": self._next_seed()})
        different = 1 if sampling.temperature == 0 else n  # greedy samples of one prompt are all the same
        groups: dict[int, list[Completion]] = {}

        def finished(place: int, raw: list[RawCompletion]) -> None:
            beat()
            group = groups[order[place]] = self._decode(raw * (n // different))
            if on_group:
                on_group(order[place], group)
            if on_progress:
                on_progress(len(groups), len(order))

        self._generate([encoded[i] for i in order], different, sampling, finished)
        completions = [groups[i] for i in range(len(order))]
        self.stats.tokens += sum(len(c.token_ids) for group in completions for c in group)
        self.stats.seconds += time.perf_counter() - started
        return completions

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a string prompt, as training encodes it: `pipeline.core.tokens`."""
        return prompt_ids(self.tokenizer, prompt)

    def sync_weights(self, model) -> None:
        """Take over the weights of the live torch module `model`; LoRA adapters count as merged. `model` is unchanged.

        Raises:
            NotImplementedError: this engine cannot take over weights.
        """
        self._sync(model)
        self.version = self._next_version()

    def load_weights(self, folder: str | Path) -> None:
        """Take over the weights of another checkpoint of the same architecture without building the engine anew.

        Raises:
            ValueError: the checkpoint's architecture or shapes differ from those of the open engine.
        """
        from pipeline.engines.weights import check_same_architecture

        check_same_architecture(self.model_path, folder)
        self._load(str(folder))
        self.version = self._next_version()

    def serve(self, folder: str | Path, tokenizer, seed: int) -> None:
        """`load_weights` and a fresh start: that checkpoint's tokenizer and end tokens, and a new random stream.

        Raises:
            ValueError: the checkpoint's architecture or shapes differ from those of the open engine.
        """
        self.load_weights(folder)
        self.tokenizer = tokenizer
        self.end_ids = end_token_ids(tokenizer, str(folder))
        self._seeds = random.Random(seed)

    def close(self) -> None:
        """Free the engine's memory. Closing twice does nothing; using it afterwards is an error."""
        self._close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _next_version(self) -> str:
        return str(int(self.version) + 1)

    def _next_seed(self) -> int:
        return self._seeds.getrandbits(31)

    def _check_lengths(self, prompt_ids: list[list[int]], sampling: Sampling) -> None:
        limit = self.settings.max_model_len
        for i, ids in enumerate(prompt_ids):
            if not ids:
                raise ValueError(f"prompt {i} is empty; every prompt needs at least one token")
            if len(ids) + sampling.max_tokens > limit:
                raise ValueError(
                    f"prompt {i} has {len(ids)} tokens and max_tokens is {sampling.max_tokens}, together over the "
                    f"engine's max_model_len of {limit}; set max_model_len to at least "
                    f"{max(map(len, prompt_ids)) + sampling.max_tokens}, lower max_tokens, or drop long prompts"
                )

    def _decode(self, group: list[RawCompletion]) -> list[Completion]:
        stopped = [bool(c.token_ids) and c.token_ids[-1] in self.end_ids for c in group]
        visible = [c.token_ids[:-1] if stop else c.token_ids for c, stop in zip(group, stopped, strict=True)]
        texts = self.tokenizer.batch_decode(visible, skip_special_tokens=False)
        return [
            Completion(
                c.token_ids, text, c.logprobs, "stop" if stop else "length",
                c.spans or [(self.version, 0, len(c.token_ids))], c.experts,
            )
            for c, text, stop in zip(group, texts, stopped, strict=True)
        ]  # fmt: skip

    @abstractmethod
    def _generate(self, prompts: list[list[int]], n: int, sampling: Sampling, finished: Finished) -> None:
        """Write `n` completions of each prompt, and call `finished` once a prompt, one call at a time."""

    @abstractmethod
    def _sync(self, model) -> None: ...

    @abstractmethod
    def _load(self, folder: str) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...


def end_token_ids(tokenizer, model_path: str) -> frozenset[int]:
    """Every token that ends a completion: the tokenizer's end token and those of the checkpoint's generation config."""
    from transformers import GenerationConfig

    ids = set()
    try:
        declared = GenerationConfig.from_pretrained(model_path).eos_token_id
    except OSError:  # a checkpoint need not carry a generation config
        declared = None
    if declared is not None:
        ids.update([declared] if isinstance(declared, int) else declared)
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    if not ids:
        raise ValueError(
            f"neither the tokenizer nor the generation config of {model_path} names an end token (eos_token); "
            "completions could never stop. Set eos_token in tokenizer_config.json"
        )
    return frozenset(ids)

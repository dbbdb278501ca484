"""Pretrains a small causal language model from nothing on endless documents: how the pocket bases are made."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from pipeline.core.strict import Strict


class ArchitectureSettings(Strict):
    """A decoder of one of the three architectures that students come in."""

    architecture: Literal["qwen2", "qwen3", "llama"] = "qwen3"
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    intermediate_size: int = 384
    context: int = 512


class PretrainSettings(Strict):
    steps: int = 1200
    documents_per_step: int = 128
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    final_learning_rate_share: float = 0.1


def build_model(settings: ArchitectureSettings, tokenizer, seed: int):
    """A randomly initialised `transformers` model in float32 with tied embeddings."""
    import torch
    import transformers

    config_class, model_class = {
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    }[settings.architecture]
    extra = {} if settings.architecture == "qwen2" else {"head_dim": settings.hidden_size // settings.heads}
    torch.manual_seed(seed)
    return model_class(
        config_class(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden_size,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.key_value_heads,
            intermediate_size=settings.intermediate_size,
            max_position_embeddings=settings.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **extra,
        )
    )


def pretrain(
    model,
    tokenizer,
    documents: Iterator[tuple[str, str]],
    settings: PretrainSettings,
    output: Path,
    log: Callable[[dict], None],
) -> None:
    """Trains on every token of each document and saves a plain checkpoint to `output`.

    Documents of like length share a batch (they are drawn in pools of 16 batches), so little is spent on padding.
    """
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.95)
    )
    floor = settings.final_learning_rate_share
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1, (step + 1) / settings.warmup_steps)
            * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / settings.steps)))
        ),
    )
    generator = torch.Generator().manual_seed(0)
    started, tokens, batches = time.perf_counter(), 0, []
    model.train()
    for step in range(settings.steps):
        if not batches:
            batches = _pool(documents, tokenizer, settings.documents_per_step, generator)
            mean_tokens = sum(int((labels != -100).sum()) for _, labels in batches) / len(batches)
        input_ids, labels = batches.pop()
        mask = (labels != -100).long()
        # Divided by the pool's mean, every token counts the same, whether its batch is of short or long documents.
        loss = model(input_ids=input_ids, attention_mask=mask, labels=labels, num_items_in_batch=mean_tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        tokens += int((labels != -100).sum())
        if step % 50 == 0 or step == settings.steps - 1:
            seconds = time.perf_counter() - started
            log({"step": step, "loss": loss.item(), "tokens_per_second": tokens / seconds, "seconds": seconds})
    model.eval()
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def _pool(documents, tokenizer, batch_size: int, generator, batches: int = 16) -> list:
    """`batches` shuffled (input_ids, labels) pairs, right-padded, each int64 [batch_size, longest of the batch]."""
    import torch

    eos = tokenizer.eos_token
    rows = [
        tokenizer(p + rest + eos)["input_ids"] for p, rest in (next(documents) for _ in range(batch_size * batches))
    ]
    rows.sort(key=len)
    pool = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        longest = len(batch[-1])
        input_ids = torch.full((len(batch), longest), tokenizer.pad_token_id)
        labels = torch.full((len(batch), longest), -100)
        for index, row in enumerate(batch):
            input_ids[index, : len(row)] = labels[index, : len(row)] = torch.tensor(row)
        pool.append((input_ids, labels))
    return [pool[i] for i in torch.randperm(len(pool), generator=generator)]

"""Pretrains a small causal language model from nothing on endless documents: how the pocket bases are made."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.config.experts import MTP_WEIGHT, BalanceSettings
from pipeline.core.causal_lm import multi_token_modules, settle_multi_token
from pipeline.core.strict import Strict


class ExpertsSettings(Strict):
    """What a DeepSeek-V3 has beside a dense decoder: experts (arXiv 2412.19437, 2.1.2) and latent attention (2.1.1)."""

    experts: int = 12
    """Routed experts of each layer but the first, which is dense."""
    experts_per_token: int = 3
    groups: int = 4
    """Groups of experts, on a node each at scale …"""
    groups_per_token: int = 2
    """… of which a token may use so many."""
    expert_size: int = 64
    """Width of a routed expert, and of the one that all tokens share."""
    key_value_rank: int = 32
    """Size of the latent that keys and values are made of: what is cached of a token, with its rotary part."""
    query_rank: int = 64
    head_size: int = 32
    """Of an attention head."""
    rotary_size: int = 16
    """What of it turns with the position."""
    mtp_modules: Literal[0, 1] = 0
    """Multi-token prediction modules (2.2) behind the layers."""


class ArchitectureSettings(Strict):
    """A decoder of one of the three architectures that students come in, or of the teacher's own."""

    architecture: Literal["qwen2", "qwen3", "llama", "deepseek_v3"] = "qwen3"
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    """Of a dense decoder: a DeepSeek-V3 has one latent for all heads."""
    intermediate_size: int = 384
    context: int = 512
    experts: ExpertsSettings = ExpertsSettings()
    """Of a DeepSeek-V3."""


class PretrainSettings(Strict):
    steps: int = 1200
    documents_per_step: int = 128
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    final_learning_rate_share: float = 0.1
    balance: BalanceSettings = BalanceSettings()
    mtp_weight: float = Field(MTP_WEIGHT, ge=0, le=1)
    """Weight of the loss of the token after the next, where the model has a module that predicts it."""


def build_model(settings: ArchitectureSettings, tokenizer, seed: int):
    """A randomly initialised `transformers` model in float32, with tied embeddings where it is dense."""
    import torch
    import transformers

    if settings.architecture == "deepseek_v3":
        from pipeline.core.multi_token import DeepseekV3ForCausalLM

        torch.manual_seed(seed)
        return DeepseekV3ForCausalLM(deepseek_config(settings, tokenizer))
    config_class, model_class = {
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    }[settings.architecture]
    extra = {} if settings.architecture == "qwen2" else {"head_dim": settings.hidden_size // settings.heads}
    torch.manual_seed(seed)
    return model_class(
        config_class(
            **_sizes(settings, tokenizer),
            num_key_value_heads=settings.key_value_heads,
            tie_word_embeddings=True,
            **extra,
        )
    )


def _sizes(settings: ArchitectureSettings, tokenizer) -> dict[str, int | None]:
    """Entries of a `transformers` configuration that every architecture has."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.hidden_size,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": settings.intermediate_size,
        "max_position_embeddings": settings.context,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def deepseek_config(settings: ArchitectureSettings, tokenizer):
    """The `transformers` configuration of a DeepSeek-V3, with what vLLM reads and transformers does not write."""
    import transformers

    parts = settings.experts
    config = transformers.DeepseekV3Config(
        **_sizes(settings, tokenizer),
        num_key_value_heads=settings.heads,
        moe_intermediate_size=parts.expert_size,
        n_shared_experts=1,
        n_routed_experts=parts.experts,
        num_experts_per_tok=parts.experts_per_token,
        n_group=parts.groups,
        topk_group=parts.groups_per_token,
        first_k_dense_replace=1,
        routed_scaling_factor=1.0,
        kv_lora_rank=parts.key_value_rank,
        q_lora_rank=parts.query_rank,
        qk_rope_head_dim=parts.rotary_size,
        qk_nope_head_dim=parts.head_size - parts.rotary_size,
        v_head_dim=parts.head_size,
        num_mtp_layers=parts.mtp_modules,
    )
    config.topk_method, config.scoring_func = "noaux_tc", "sigmoid"
    return config


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

    from pipeline.models.routers import Routers, check_balance, load_figures

    mtp_weight = settings.mtp_weight if multi_token_modules(model) else 0.0
    settle_multi_token(model, mtp_weight)
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
    routers = Routers(model)
    check_balance(routers, settings.balance, model)
    routers.add_sequence_loss(settings.balance.sequence_weight / settings.documents_per_step)
    started, tokens, batches = time.perf_counter(), 0, []
    model.train()
    for step in range(settings.steps):
        if not batches:
            batches = _pool(documents, tokenizer, settings.documents_per_step, generator)
            mean_tokens = sum(int((labels != -100).sum()) for _, labels in batches) / len(batches)
        input_ids, labels = batches.pop()
        mask = (labels != -100).long()
        # Divided by the pool's mean, every token counts the same, whether its batch is of short or long documents.
        further = None
        if mtp_weight:
            loss, further = model.losses(input_ids, mask, labels, mean_tokens)
            (loss + mtp_weight * further).backward()
        else:
            loss = model(input_ids=input_ids, attention_mask=mask, labels=labels, num_items_in_batch=mean_tokens).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loads = {}
        if len(routers):
            counts = routers.take()
            loads = load_figures(counts)
            if settings.balance.bias_rate:
                routers.balance(counts, settings.balance.bias_rate)
        tokens += int((labels != -100).sum())
        if step % 50 == 0 or step == settings.steps - 1:
            seconds = time.perf_counter() - started
            ahead = {} if further is None else {"mtp_loss": further.item()}
            rates = {"tokens_per_second": tokens / seconds, "seconds": seconds}
            log({"step": step, "loss": loss.item()} | ahead | rates | loads)
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

"""DeepSeek-V3 with its multi-token prediction module (arXiv 2412.19437, section 2.2).

The module is one more decoder layer, `model.layers.N` behind the N of the main model, under the names of DeepSeek-V3's
own files. transformers drops these weights; here they belong to the model, so that whatever walks its weights (saving,
training, handing over) has them. The main model runs its own N layers and computes what it did without.
`pipeline.core.causal_lm` loads it.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import DeepseekV3Config
from transformers.masking_utils import create_causal_mask
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as published


class SharedHead(nn.Module):
    """The module's last norm. The head behind it, and the embedding, are the main model's own."""

    def __init__(self, config: DeepseekV3Config):
        super().__init__()
        self.norm = published.DeepseekV3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class MultiTokenLayer(published.DeepseekV3DecoderLayer):
    """Equations 21 to 23: what is known at a position and the next token, projected and put through a decoder layer."""

    def __init__(self, config: DeepseekV3Config, layer_idx: int):
        super().__init__(config, layer_idx)
        self.enorm = published.DeepseekV3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.hnorm = published.DeepseekV3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.eh_proj = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.shared_head = SharedHead(config)

    def forward(self, hidden_states: torch.Tensor, next_embedded: torch.Tensor, **arguments) -> torch.Tensor:
        """Both (rows, length, width): the main model's last hidden states, and the embeddings of the tokens behind."""
        joined = torch.cat([self.enorm(next_embedded), self.hnorm(hidden_states)], dim=-1)
        return self.shared_head.norm(super().forward(self.eh_proj(joined), **arguments))


class DeepseekV3ForCausalLM(published.DeepseekV3ForCausalLM):
    """transformers' own with its modules; of the same name, which goes into config.json."""

    _keys_to_ignore_on_load_unexpected = (r"layers\.\d+\.(embed_tokens|shared_head\.head)\.weight",)
    """Copies of the main model's in DeepSeek-V3's files."""
    _no_split_modules = (*published.DeepseekV3ForCausalLM._no_split_modules, "MultiTokenLayer")

    def __init__(self, config: DeepseekV3Config):
        super().__init__(config)
        for depth in range(config.num_mtp_layers):
            self.model.layers.append(MultiTokenLayer(config, config.num_hidden_layers + depth))
        self.post_init()

    def ahead(
        self,
        hidden: torch.Tensor,
        next_ids: torch.Tensor,
        position_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        detached: bool = False,
        **arguments,
    ) -> torch.Tensor:
        """(rows, length, width) states that the head predicts the token after the next from.

        Of the first module: `hidden` (rows, length, width) are the main model's last hidden states, `next_ids` (rows,
        length) the token behind each. With `detached` no gradient goes into the main model.
        """
        embedded = self.get_input_embeddings()(next_ids)
        if detached:
            hidden, embedded = hidden.detach(), embedded.detach()
        # Of a first position vLLM drops the embedding when it drafts.
        embedded = embedded.masked_fill(position_ids[..., None] == 0, 0)
        layer = self.model.layers[self.config.num_hidden_layers]
        rotation = self.model.rotary_emb(hidden, position_ids=position_ids)
        return layer(
            hidden,
            embedded,
            attention_mask=attention_mask,
            position_ids=position_ids,
            position_embeddings=rotation,
            **arguments,
        )

    def losses(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor, tokens: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of the next token and that of the token after it (equation 24, without its weight), summed and
        divided by `tokens`. All (rows, length), padded on the right, labels -100 where a token does not count.

        A token after the next counts where both it and the one before it do.
        """
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        next_ids = torch.cat([input_ids[:, 1:], input_ids[:, -1:]], dim=1)
        mask = create_causal_mask(
            config=self.config, inputs_embeds=hidden, attention_mask=attention_mask, past_key_values=None,
            position_ids=positions,
        )  # fmt: skip
        further = self.ahead(hidden, next_ids, positions, mask)
        counted = (labels[:, 1:-1] != -100) & (labels[:, 2:] != -100)
        return (
            self._loss(hidden[:, :-1], labels[:, 1:], labels[:, 1:] != -100, tokens),
            self._loss(further[:, :-2], labels[:, 2:], counted, tokens),
        )

    def _loss(self, hidden, labels, counted, tokens: float) -> torch.Tensor:
        return cross_entropy(self.lm_head(hidden[counted]).float(), labels[counted], reduction="sum") / tokens

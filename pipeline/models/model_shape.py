"""The numbers that say how large a decoder is, and what follows from them: weights, and what a token takes."""

from dataclasses import dataclass, replace

from pipeline.core.cache_size import cached_numbers


@dataclass(frozen=True)
class Experts:
    """The feed-forward layers of a mixture of experts."""

    routed: int
    per_token: int
    """How many of the routed experts a token uses."""
    width: int
    shared: int = 0
    """Experts that every token uses, of the same width."""
    dense_layers: int = 0
    """First layers that have a dense feed-forward layer instead."""


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""

    rank: int
    """Size of the latent that keys and values are made of."""
    query_rank: int | None
    without_position: int
    """Numbers of a head's query and key that do not turn with the position …"""
    rotary: int
    """… and that do; of keys all heads have these in common."""
    values: int


@dataclass(frozen=True)
class ModelShape:
    """A decoder of the Llama, Qwen or DeepSeek families, dense or of experts."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    """Of a query."""
    intermediate: int
    vocabulary: int
    tied: bool
    context: int
    """Longest text in tokens that the model was made for."""
    attention_biases: bool = False
    head_norms: bool = False
    experts: Experts | None = None
    latent: Latent | None = None
    modules: int = 0
    """Multi-token prediction modules behind the layers, each a layer with a projection before it (DeepSeek-V3, arXiv
    2412.19437, section 2.2)."""
    trained_modules: int = 0
    """How many of them a stage trains."""

    def training_modules(self, mtp_weight: float) -> "ModelShape":
        """The model as a stage trains it in which the loss of the first module has this weight."""
        return replace(self, trained_modules=min(1, self.modules) if mtp_weight else 0)

    @property
    def main(self) -> "ModelShape":
        """The model without modules."""
        return replace(self, modules=0, trained_modules=0)

    @property
    def linear_shapes(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each linear layer but the head: where LoRA adapters go."""
        layers = range(self.layers + self.modules)
        projections = [(2 * self.hidden, self.hidden)] * self.modules
        return [shape for layer in layers for shape in self._linear_shapes(layer)] + projections

    @property
    def linear_names(self) -> list[str]:
        """Names of the linear layers but the head."""
        attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
        if self.latent:
            queries = ["q_a_proj", "q_b_proj"] if self.latent.query_rank else ["q_proj"]
            attention = [*queries, "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]
        return [*attention, "gate_proj", "up_proj", "down_proj"]

    def cached_numbers(self, latent: bool = True, drafting: int = 0) -> int:
        """Numbers kept of a token while the model writes: keys and values, or of latent attention, unless told not to,
        the latents; of so many `drafting` modules too."""
        entries: dict[str, int] = {"num_hidden_layers": self.layers + drafting, "num_attention_heads": self.heads}
        entries |= {"num_key_value_heads": self.kv_heads, "head_dim": self.head_size}
        if self.latent:
            entries |= {"kv_lora_rank": self.latent.rank, "qk_rope_head_dim": self.latent.rotary}
            entries |= {"qk_nope_head_dim": self.latent.without_position}
        return cached_numbers(entries, latent)

    @property
    def attention_numbers(self) -> int:
        """Products of all layers for a pair of a token and one that it attends to: scores and weighted sum."""
        return self.layers * self.heads * (self.head_size + (self.latent.values if self.latent else self.head_size))

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embeddings, and as many of the head."""
        return self.vocabulary * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Weights of the largest layer that a pass goes through, a module that trains among them."""
        return max(*self._main_layers(), self.module_parameters if self.trained_modules else 0)

    @property
    def module_parameters(self) -> int:
        """Weights of one module: a layer, the projection to it and three norms. Embedding and head are the model's."""
        return self._layer_parameters(self.layers) + 2 * self.hidden * self.hidden + 3 * self.hidden

    @property
    def frozen_parameters(self) -> int:
        """Those of modules that do not train."""
        return (self.modules - self.trained_modules) * self.module_parameters

    @property
    def parameters(self) -> int:
        """Stored weights, modules included; a tied head counts once."""
        further = self.modules * self.module_parameters
        return self.embedding_parameters * (1 if self.tied else 2) + sum(self._main_layers()) + self.hidden + further

    @property
    def active_parameters(self) -> int:
        """Those that a token uses in the main model: all but the experts that are not its own."""
        return self.main.parameters - sum(self._idle_parameters(layer) for layer in range(self.layers))

    @property
    def ahead_parameters(self) -> int:
        """Those that a token uses besides in modules that train, without the head."""
        return self.trained_modules * (self.module_parameters - self._idle_parameters(self.layers))

    @property
    def body_parameters(self) -> int:
        """Weights of the layers that a token goes through."""
        return self.active_parameters - self.embedding_parameters * (1 if self.tied else 2) - self.hidden

    @property
    def expert_numbers(self) -> int:
        """Numbers that a token's routed experts keep of it in a layer for the backward pass beside what a dense layer
        keeps: their inputs, gates, products and outputs."""
        return self.experts.per_token * (2 * self.hidden + 3 * self.experts.width) if self.experts else 0

    def _linear_shapes(self, layer: int) -> list[tuple[int, int]]:
        return [*self._attention_shapes(), *self._feed_forward_shapes(layer)]

    def _attention_shapes(self) -> list[tuple[int, int]]:
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        if self.latent is None:
            return [(self.hidden, queries), (self.hidden, keys), (self.hidden, keys), (queries, self.hidden)]
        part = self.latent
        made = self.heads * (part.without_position + part.values)
        asked = [(self.hidden, queries)]
        if part.query_rank:
            asked = [(self.hidden, part.query_rank), (part.query_rank, queries)]
        kept = [(self.hidden, part.rank + part.rotary), (part.rank, made)]
        return [*asked, *kept, (self.heads * part.values, self.hidden)]

    def _feed_forward_shapes(self, layer: int) -> list[tuple[int, int]]:
        experts = self.experts
        if experts is None or layer < experts.dense_layers:
            return [(self.hidden, self.intermediate)] * 2 + [(self.intermediate, self.hidden)]
        shared = experts.shared * experts.width
        together = [(self.hidden, shared)] * 2 + [(shared, self.hidden)] if shared else []
        # Gate and input of a routed expert are one tensor.
        return together + [(self.hidden, 2 * experts.width), (experts.width, self.hidden)] * experts.routed

    def _main_layers(self) -> list[int]:
        return [self._layer_parameters(layer) for layer in range(self.layers)]

    def _idle_parameters(self, layer: int) -> int:
        """Of the experts of a layer that are not a token's own."""
        if self.experts is None or layer < self.experts.dense_layers:
            return 0
        return (self.experts.routed - self.experts.per_token) * 3 * self.hidden * self.experts.width

    def _layer_parameters(self, layer: int) -> int:
        norms = 2 * self.hidden + (2 * self.head_size if self.head_norms else 0)
        if self.latent:
            norms += self.latent.rank + (self.latent.query_rank or 0)
        biases = (self.heads + 2 * self.kv_heads) * self.head_size if self.attention_biases else 0
        router = 0
        if self.experts and layer >= self.experts.dense_layers:
            router = self.experts.routed * (self.hidden + (1 if self.latent else 0))  # with balancing biases
        return sum(inputs * outputs for inputs, outputs in self._linear_shapes(layer)) + biases + norms + router

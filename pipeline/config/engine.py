"""Settings of rollout engines and of sampling."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from pipeline.core.kinds import OneOfKinds
from pipeline.core.strict import Strict


def _sampled_as_it_says(temperature: float) -> float:
    if temperature != 0 and not COLDEST <= temperature <= HOTTEST:
        raise ValueError(
            f"temperature {temperature:g} is not sampled as it says: vLLM takes {COLDEST} for anything between 0 and "
            f"{COLDEST}, and refuses more than {HOTTEST:g}. Set it from {COLDEST} to {HOTTEST:g}, or to 0 for the "
            "likeliest token where that is allowed"
        )
    return temperature


COLDEST, HOTTEST = 0.01, 2.0
Temperature = Annotated[float, AfterValidator(_sampled_as_it_says)]
"""A divisor of logits; 0, where it is allowed, takes the likeliest token."""

CACHE_BLOCK = 32
"""Tokens a block of vLLM's cache on a CPU. Its default of 128 means that shorter prompts share no prefix."""
SMALLEST_CACHE, LARGEST_CACHE = 256 << 20, 4 << 30
"""Bytes of a cache that nobody sized. Less would save nothing worth it; sequences that do not fit wait."""


class EngineSettings(OneOfKinds):
    """One rollout engine. The defaults suit one GPU that training shares, and any CPU."""

    implementation: ClassVar[str]
    """`module:class` of the engine itself."""
    takes_adapters: ClassVar[bool] = False
    """Whether it loads LoRA adapters directly; otherwise they are merged into the weights that it gets."""
    holds_modules: ClassVar[bool] = False
    """Whether it holds a model's multi-token prediction modules, writing with them or not."""
    passed_over = frozenset(
        {
            "gpu_memory_utilization", "kv_cache_gib", "enforce_eager", "latent_cache", "server_timeout_s",
            "server_tries", "gpus_per_server", "server_gpu_memory", "server_start_s", "server_silent_s",
            "weights_folder",
        }
    )  # fmt: skip

    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision of the engine's weights. In RL use the training dtype, or the two log-probabilities differ."""
    max_model_len: int = Field(gt=1)
    """Longest prompt plus completion, in tokens."""
    max_sequences: int = Field(default=256, gt=0)
    """Sequences written at once."""

    @property
    def experts_untold(self) -> str:
        """Why it cannot tell which experts a model's routers choose, and what to set; '' where it can."""
        return f"the engine {self.kind!r} does not tell which experts its model chose; set engine.kind: transformers"

    @classmethod
    def replaced(cls, below: dict, above: dict) -> dict[str, str]:
        """Besides keys of another kind: servers to start take the place of servers that stand, and the reverse."""
        found = super().replaced(below, above)
        for given, other in (("servers", "server_urls"), ("server_urls", "servers")):
            if above.get(given) and other not in above and below.get(other):
                found.setdefault(other, f"{given} is set")
        return found

    def memory(self, weights: float, token: float, device: str, size: float) -> float:
        """Bytes that it takes beside training on a `device` (`cpu`, `cuda`) of `size` bytes, with `weights` bytes of
        weights and `token` bytes of keys and values a token."""
        raise NotImplementedError

    def cache_bytes(self, token: float | None) -> int:
        """Size of vLLM's key-value cache on a CPU, where a token's keys and values take `token` bytes; None: not known.

        What `max_sequences` of `max_model_len` take, from 256 MiB to 4 GiB, but always one sequence."""
        if token is None:
            return LARGEST_CACHE
        sequence = (-(-self.max_model_len // CACHE_BLOCK) + 1) * CACHE_BLOCK * token  # and a block begun ahead
        return round(max(sequence, SMALLEST_CACHE, min(self.max_sequences * sequence, LARGEST_CACHE)))


class VLLMSettings(EngineSettings):
    """vLLM inside this process, on CPU or CUDA."""

    implementation: ClassVar[str] = "pipeline.engines.vllm:VLLMEngine"
    takes_adapters: ClassVar[bool] = True

    kind: Literal["vllm"] = "vllm"
    gpu_memory_utilization: float = Field(default=0.35, gt=0, le=1)
    """Share of the GPU's memory for weights and cache (CUDA; training needs the rest)."""
    kv_cache_gib: int | None = Field(default=None, gt=0)
    """Size of the key-value cache in GiB (CPU). None: what `max_sequences` of `max_model_len` take, from 256 MiB to 4
    GiB, but always one sequence."""
    enforce_eager: bool = False
    """CUDA: skip compilation and CUDA graphs; starts faster, runs slower. On CPU always so."""
    latent_cache: bool = True
    """Models with multi-head latent attention (DeepSeek-V3) keep the latent of a token in the cache, not the keys and
    values made of it. The kernels for that take the published sizes of heads alone; false computes the same for any."""

    def cache_bytes(self, token: float | None) -> int:
        return super().cache_bytes(token) if self.kv_cache_gib is None else self.kv_cache_gib << 30

    def memory(self, weights: float, token: float, device: str, size: float) -> float:
        return self.gpu_memory_utilization * size if device == "cuda" else weights + self.cache_bytes(token)


class ServerSettings(EngineSettings):
    """vLLM servers: processes of their own, on this machine or on others, that take over weights from a trainer."""

    implementation: ClassVar[str] = "pipeline.engines.server:ServerEngine"

    kind: Literal["vllm-server"] = "vllm-server"
    server_urls: list[str] = []
    """Base addresses of vLLM servers that stand, as http://host:8000. Requests are spread over them. RL needs servers
    that take weights (`make serve`); any OpenAI-compatible vLLM server does for sampling from what it holds."""
    servers: int = Field(default=0, ge=0)
    """Servers that the run starts itself, on this machine, watches, and ends; instead of `server_urls`."""
    gpus_per_server: int = Field(default=1, gt=0)
    """GPUs of each of `servers` (vLLM's tensor parallelism). They come after those of the run's processes."""
    server_gpu_memory: float = Field(default=0.9, gt=0, le=1)
    """Share of its GPUs' memory that each of `servers` takes."""
    weights_folder: str | None = None
    """Where trainers write weights for the servers; both must see it. None: /dev/shm for `servers`, and runs/.weights
    for `server_urls`."""
    latent_cache: bool = True
    """Models with multi-head latent attention keep latents in the cache of `servers`, as in the engine `vllm`."""
    server_timeout_s: float = Field(default=3600.0, gt=0)
    """Longest wait for one request to a server, in seconds."""
    server_tries: int = Field(default=8, gt=0)
    """Tries of one request, on whichever server is awake, before the run stops. A server that failed rests 0.5 s, then
    1, 2, … 30 s, so that eight tries give a single server about a minute to come back."""
    server_start_s: float = Field(default=900.0, gt=0)
    """How long one of `servers` may be still after it was started: no line in its log, no work. One that gets on is
    waited for, at most four times as long, and 1 s more for each 50 MB of weights."""
    server_silent_s: float = Field(default=120.0, gt=0)
    """One of `servers` that answers nothing for so long is ended and started again."""

    @model_validator(mode="after")
    def _servers_are_named(self) -> "ServerSettings":
        if not self.server_urls and not self.servers:
            raise ValueError(
                "engine kind is 'vllm-server' but server_urls is empty; "
                "set server_urls to the addresses of running servers, for example ['http://localhost:8000'], "
                "or servers to the number that the run is to start itself"
            )
        if self.server_urls and self.servers:
            raise ValueError(
                f"engine.servers={self.servers} are to be started, and engine.server_urls names servers that stand; "
                "set one of the two"
            )
        return self

    def memory(self, weights: float, token: float, device: str, size: float) -> float:
        return self.servers * (weights + self.cache_bytes(token)) if device == "cpu" else 0  # GPUs of their own


class TransformersSettings(EngineSettings):
    """PyTorch and transformers alone, for machines where vLLM cannot be installed. Llama, Mistral, Qwen2 and Qwen3 have
    a decoder of their own; other models go through `transformers.generate`, several times slower."""

    implementation: ClassVar[str] = "pipeline.engines.transformers:TransformersEngine"
    holds_modules: ClassVar[bool] = True

    kind: Literal["transformers"] = "transformers"
    mtp_drafts: Literal[0, 1] = 0
    """Tokens that a model's multi-token prediction module drafts at a time, where it has one (DeepSeek-V3). What is
    written is distributed as without, by rejection sampling."""

    @property
    def experts_untold(self) -> str:
        drafts = "an engine that writes with drafts does not tell which experts its model chose; set mtp_drafts: 0"
        return drafts if self.mtp_drafts else ""

    def memory(self, weights: float, token: float, device: str, size: float) -> float:
        slots = self.max_model_len * (1 + self.mtp_drafts)  # a draft that is rejected leaves its slot empty
        return weights + self.max_sequences * slots * token


AnyEngine = EngineSettings.any_kind()
"""The type of a profile's `engine`."""


class Sampling(Strict):
    """How completions are drawn."""

    max_tokens: int = Field(gt=0)
    """Longest completion, in tokens, the end token included."""
    temperature: Temperature = Field(default=1.0, ge=0)
    """0 takes the most likely token."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = None
    """The same engine, weights, prompts and seed give the same completions. None: the engine's own stream."""
    logprobs: bool = True
    """Report the log-probability of each sampled token."""

"""Rollouts from vLLM servers over HTTP: the way to spread sampling and RL over GPUs and machines."""

import asyncio
import logging
import math
from pathlib import Path, PurePath
from typing import Any

import httpx
import torch

from pipeline.config.engine import Sampling, ServerSettings
from pipeline.core.console import LOGGER
from pipeline.core.http import Client, HTTPFault, each, read_json
from pipeline.core.ranks import from_the_first
from pipeline.engines.engine import Engine, Finished, RawCompletion
from pipeline.engines.handover import AT_START, FIXED_WORDS, HandOver, fixed_prompt, held, told_version
from pipeline.engines.keeper import Keeper
from pipeline.engines.server_plans import server_plans
from pipeline.engines.servers import ServerError, Servers, StaleServer, server_key
from pipeline.engines.starting import longest_start_s, weights_bytes
from pipeline.engines.weight_folders import Version, WeightFolders, check_whole, default_parent
from pipeline.engines.weights import same_architecture, streamed_weights

START_TIMEOUT_S = 30.0
COMPLETIONS, GENERATE = "/v1/completions", "/inference/v1/generate"
"""Where any vLLM server writes; and where one that takes over weights says which of them wrote each token."""
NEUTRAL_SAMPLING = {
    "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    "min_tokens": 0, "ignore_eos": False, "stop": [], "logit_bias": None, "include_stop_str_in_output": False,
}  # fmt: skip
NEUTRAL = NEUTRAL_SAMPLING | {"length_penalty": 1.0, "use_beam_search": False, "echo": False}
"""Said in every request: a server fills what is left open from the generation_config.json of its model."""
SAME_PLACE = 3
"""Names at the end of a path that tell a checkpoint on a disk that is mounted elsewhere: run, stage, `checkpoint`."""


class ServerEngine(Engine):
    """One request a prompt with `n` samples, spread over the servers, at most `max_sequences` samples in flight.

    Token ids pass in both directions, so nothing is encoded twice. What happens when a server fails:
    `pipeline.engines.servers`. With `servers` it starts them itself (`pipeline.engines.keeper`), else they stand: those
    of `make serve` take over weights (`pipeline.engines.handover`), and any other vLLM server, as
    `vllm serve CHECKPOINT --logprobs-mode processed_logprobs` starts one, writes from the checkpoint that it holds.

    Several processes share the servers. All open the engine, hand weights over and close it together: the first one
    does the work, and each asks its own questions.
    """

    def __init__(self, settings: ServerSettings, model, tokenizer, seed: int, adapter_rank=None, device=None):
        super().__init__(settings, model, tokenizer, seed, adapter_rank, device)
        self._keeper: Keeper | None = None
        self._folders: WeightFolders | None = None
        self._hand_over: HandOver | None = None
        try:
            urls, self._hand_over = from_the_first(self._begin)
            self._served = {url: _model_name(url, self.model_path, self._hand_over is not None) for url in urls}
            if self._hand_over:
                self._hand_over.version = from_the_first(self._settle)
                self.version = self._hand_over.name
        except BaseException:
            self._close()
            raise

    def _begin(self) -> tuple[list[str], HandOver | None]:
        """In the first process: addresses of the servers, and how weights get there, if they take any."""
        here = bool(self.settings.servers)
        if here:
            self._keeper = Keeper(server_plans(self.settings, self.model_path, self.device), self.settings)
            urls = self._keeper.urls
        else:
            urls = [url.rstrip("/").removesuffix("/v1") for url in self.settings.server_urls]
        if not all([takes_weights(url) for url in urls]):
            return urls, None
        parent = self.settings.weights_folder
        self._folders = WeightFolders(Path(parent) if parent else default_parent(here))
        room = self.settings.max_model_len - 1
        return urls, HandOver(self._folders.folder, fixed_prompt(self.encode(FIXED_WORDS), room))

    def _settle(self) -> Version | None:
        """In the first process: has servers that were left with other weights take those of the checkpoint. None where
        all were started on it, and have taken nothing since."""
        start = self._folders.of_checkpoint(Path(self.model_path), self._dtype)
        if asyncio.run(self._all_hold(start)):
            return None
        self._bring(start)
        return start

    async def _all_hold(self, start: Version) -> bool:
        """Whether every server holds what it was started on, which is the checkpoint; notes how they answer then."""
        async with self._servers() as servers:
            for url, (name, loaded) in self._served.items():
                try:
                    if not loaded or await held(servers.client, url) != AT_START:
                        return False
                    await self._hand_over.note(servers.client, url, name, start)
                except HTTPFault as fault:
                    raise ServerError(f"the vLLM server at {url} does not answer: {fault}. Start it anew") from fault
        return True

    @property
    def _dtype(self) -> torch.dtype:
        return getattr(torch, self.settings.dtype)

    def _servers(self) -> Servers:
        """To ask them, inside one event loop."""
        settings, takes = self.settings, self._hand_over is not None
        return Servers(
            list(self._served),
            settings.server_timeout_s,
            settings.server_tries,
            self._bring_one if takes else None,
            longest_start_s(settings.server_start_s, weights_bytes(self.model_path)) if settings.servers else 0.0,
            self._keeper.check if self._keeper else lambda: None,
        )

    def _generate(self, prompts: list[list[int]], n: int, sampling: Sampling, finished: Finished) -> None:
        asyncio.run(self._generate_all(prompts, n, sampling, finished))

    async def _generate_all(self, prompts: list[list[int]], n: int, sampling: Sampling, finished: Finished) -> None:
        room = max(1, self.settings.max_sequences // n)
        version = self._hand_over.name if self._hand_over else None
        path = COMPLETIONS if version is None else GENERATE
        async with self._servers() as servers:

            async def one(place: int) -> None:
                seed = sampling.seed + place * n  # of the row: wherever it is asked, it draws the same
                group = await servers.ask(
                    path,
                    lambda url: self._body(url, prompts[place], n, sampling, seed),
                    lambda answer: read_completions(answer, n, sampling, version),
                )
                finished(place, group)

            await each(range(len(prompts)), one, room)

    def _body(self, url: str, prompt: list[int], n: int, sampling: Sampling, seed: int) -> dict[str, Any]:
        """`seed` is the request's own: vLLM draws sample i of a request with `seed` + i."""
        drawn = {
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
            "logprobs": 0 if sampling.logprobs else None,
            "stop_token_ids": sorted(self.end_ids),
        }
        name, _ = self._served[url]
        if self._hand_over:
            return {
                "model": name,
                "token_ids": prompt,
                "sampling_params": NEUTRAL_SAMPLING | drawn | {"detokenize": False},
            }
        return NEUTRAL | {"model": name, "prompt": prompt, **drawn, "return_token_ids": True}

    # ---- Weights ------------------------------------------------------------------------------------------------

    def _sync(self, model) -> None:
        if self._hand_over is None:
            raise NotImplementedError(
                f"the servers {', '.join(self._served)} of the engine 'vllm-server' cannot take over weights from a "
                "trainer; start them with `make serve`, let the run start its own (SERVERS=2), or use kind: vllm for RL"
            )
        weights = streamed_weights(model, self._dtype)
        version = None
        if self._folders:
            version = self._folders.write(weights, self._dtype)
        else:
            for _ in weights:  # of a model in shards every process gathers
                pass
        from_the_first(lambda: self._bring(version))

    def _load(self, folder: str) -> None:
        if self._hand_over is None:
            raise NotImplementedError(
                f"the engine 'vllm-server' cannot load {folder} into a running server; "
                "start a server on that checkpoint and open an engine on its address, or take servers of `make serve`"
            )
        from_the_first(lambda: self._bring(self._folders.of_checkpoint(Path(folder), self._dtype)))

    def _bring(self, version: Version) -> None:
        """In the first process: has the servers take over the version.

        Raises ServerError where none does. One that fails is asked nothing before it has caught up.
        """
        check_whole(version)
        faults = asyncio.run(self._bring_all(version))
        if len(faults) == len(self._served) and not self.settings.servers:
            told = "; ".join(f"{url}: {fault}" for url, fault in faults.items())
            raise ServerError(f"no server has taken over the weights of {version.folder}. {told}")
        for url, fault in faults.items():
            logging.getLogger(LOGGER).warning(
                "%s rests until it has taken over the weights of version %s: %s", url, version.name, fault
            )

    async def _bring_all(self, version: Version) -> dict[str, str]:
        self._hand_over.version = version
        async with self._servers() as servers:
            return await servers.bring_all()

    async def _bring_one(self, client: Client, url: str) -> None:
        await self._hand_over.bring(client, url, self._served[url][0])

    def _next_version(self) -> str:
        """The first process has set it; the others learn of it here."""
        self._hand_over.version = from_the_first(lambda: self._hand_over.version)
        return self._hand_over.name

    def _close(self) -> None:
        if self._keeper:
            self._keeper.close()
            self._keeper = None
        if self._folders:
            self._folders.close()
            self._folders = None


def read_completions(answer: Any, n: int, sampling: Sampling, version: str | None = None) -> list[RawCompletion]:
    """The `n` completions of an answer, all by weights of `version`, if it is given.

    Raises HTTPFault for an answer that lacks some, has too many or garbled ones, StaleServer for other weights.
    """
    try:
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        if [choice["index"] for choice in choices] != list(range(n)):
            raise HTTPFault(f"{len(choices)} completions with the numbers {[c['index'] for c in choices]}, not {n}")
        return [_read_completion(choice, sampling, version) for choice in choices]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise HTTPFault(f"an answer without whole completions ({type(error).__name__}: {error})") from None


def _read_completion(choice: dict, sampling: Sampling, version: str | None) -> RawCompletion:
    ids = choice.get("token_ids")
    if ids is None:
        raise HTTPFault(
            "no token ids in the answer; it must be a vLLM server of version 0.10.2 or later "
            "(the request sets return_token_ids)"
        )
    if choice["finish_reason"] not in ("stop", "length"):
        raise HTTPFault(f"a completion cut off by the server (finish_reason {choice['finish_reason']!r})")
    if not all(type(token) is int and token >= 0 for token in ids) or not 0 < len(ids) <= sampling.max_tokens:
        raise HTTPFault(f"{len(ids)} token ids, where 1 to {sampling.max_tokens} whole numbers were expected")
    spans = None if version is None else _read_spans(choice["weight_versions"], len(ids))
    if spans and any(written_by != version for written_by, _, _ in spans):
        raise StaleServer(f"it wrote with weights of the version {spans[-1][0]}, and {version} is asked for")
    logprobs = _read_logprobs(choice["logprobs"]) if sampling.logprobs else None
    if logprobs is not None and (len(logprobs) != len(ids) or not all(math.isfinite(each) for each in logprobs)):
        raise HTTPFault(f"{len(logprobs)} log-probabilities for {len(ids)} tokens, or some that are not finite")
    return RawCompletion(ids, logprobs, spans)


def _read_spans(told: list[dict], length: int) -> list[tuple[str, int, int]]:
    """Which version wrote which tokens: (version, first, end), every token once."""
    spans = [(str(span["version"]), span["start"], span["end"]) for span in told]
    ends = [0, *(end for _, _, end in spans)]
    if [first for _, first, _ in spans] != ends[:-1] or ends[-1] != length:
        raise HTTPFault(f"versions of the weights for other tokens than the {length} of the completion: {spans}")
    return spans


def _read_logprobs(told: dict) -> list[float]:
    """One a token, of either kind of answer."""
    return [each["logprob"] for each in told["content"]] if "content" in told else told["token_logprobs"]


def takes_weights(url: str) -> bool:
    """Whether the server tells the version of its weights, as one does that takes over others."""
    try:
        return told_version(_get(f"{url}/weight_info")) is not None
    except (httpx.HTTPError, HTTPFault):
        return False


def _get(url: str) -> Any:
    headers = {"Authorization": f"Bearer {key}"} if (key := server_key()) else {}
    response = httpx.get(url, timeout=START_TIMEOUT_S, headers=headers)
    response.raise_for_status()
    return read_json(response)


def _model_name(url: str, wanted: str, takes: bool) -> tuple[str, bool]:
    """The name under which a server serves a model, and whether that is the checkpoint `wanted`; one that `takes` over
    weights may serve another of its architecture.

    Raises ServerError where it does not say, or says that it holds another model.
    """
    try:
        models = [(str(model["id"]), model.get("root")) for model in _get(f"{url}/v1/models")["data"]]
        names = [name for name, root in models if _is_model(wanted, name) or (root and _is_model(wanted, str(root)))]
        first, root = models[0]
    except (httpx.HTTPError, HTTPFault) as error:
        raise ServerError(
            f"the vLLM server at {url} (engine.server_urls) does not answer: {error}. Start it, or correct the address"
        ) from error
    except (KeyError, TypeError, IndexError):
        raise ServerError(
            f"{url} (engine.server_urls) answers, but names no model at /v1/models: it is no vLLM server. "
            "Correct the address"
        ) from None
    if names:
        return names[0], True
    if root is None:
        logging.getLogger(LOGGER).warning(
            "%s serves a model called %s and does not say where it is from: it is taken for %s.", url, first, wanted
        )
        return first, True
    if takes and Path(root).is_dir() and same_architecture(root, wanted):
        return first, False
    raise ServerError(
        f"the vLLM server at {url} (engine.server_urls) holds {root}, and the stage samples from {wanted}: its answers "
        f"would stand under the wrong model's name. Start one with `vllm serve {wanted}`; if it is the same checkpoint "
        f"under another path, add `--served-model-name {wanted}`"
    )


def _is_model(wanted: str, told: str) -> bool:
    """Whether a server's name or path of a model is the checkpoint: the same words, the same folder, or the same run's
    and stage's on a disk that is mounted elsewhere."""
    if told == wanted or (Path(told).exists() and Path(wanted).exists() and Path(told).samefile(wanted)):
        return True
    ours, theirs = (PurePath(path).parts[-SAME_PLACE:] for path in (Path(wanted).absolute(), told))
    return not Path(told).exists() and len(theirs) == SAME_PLACE and ours == theirs and ours[-1] == "checkpoint"

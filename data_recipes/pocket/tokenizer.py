"""The pocket tokenizer: byte-level BPE of 512 in which every digit and every tag is a token of its own."""

import itertools
import re

from data_recipes.pocket.corpus import CorpusSettings, documents

SPECIAL_TOKENS = ["<|pad|>", "<|eos|>"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}User: {{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %} Assistant:"
    "{% generation %}{{ message['content'] }}<|eos|>{% endgeneration %}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %} Assistant:{% endif %}"
)
"""Conversations as the base corpus writes them down: markers that the base has never seen would cost a model of this
size its arithmetic when they are learned from a few hundred rows."""


MIXTURE = CorpusSettings(reasoned_share=0.14, terms=(3, 6), largest_move=19)
"""Of the text that the tokenizer is trained on: its own, so that a base's mixture can change and its tokens stay."""


def build_tokenizer(vocabulary: int = 512, training_documents: int = 6000):
    """Trains the tokenizer on `MIXTURE` with seed 0, so that teacher and students share it.

    Returns a `transformers.PreTrainedTokenizerFast` with `<|eos|>` as end of sequence and a chat template.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    text = (
        re.sub("|".join(TAGS), "\n", prompt + rest)
        for prompt, rest in itertools.islice(documents(MIXTURE, 0), training_documents)
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(TAGS),
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|eos|>", padding_side="left"
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped

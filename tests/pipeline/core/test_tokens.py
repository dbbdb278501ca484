"""One way from text to ids: training, sampling, scoring and evaluation read the same tokens, and no text of a user or a
model becomes a control token."""

import json
from pathlib import Path

import pytest
import trl
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data_recipes.pocket.bases import base_folder
from data_recipes.question import Question
from data_recipes.templates import chat_prompt, prompts_for
from pipeline.config.tokenizer import TEMPLATES
from pipeline.core import tokens
from pipeline.training.sft import encode_rows
from rewards import reward_model_text
from rewards.builtin.reward_model import reward_model_ids

MARKS = ["<|pad|>", "<|eos|>", "<s>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>",
         "<|end_header_id|>", "<|eot_id|>", "<think>", "</think>"]  # fmt: skip
HAND_MADE = {
    "plain": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|eos|>{% endfor %}",
    "bos token": "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}",
    "bos spelled": "<s>{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}",
    "bos twice": "<s>{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}",
}
SHIPPED = {file.stem: file for file in TEMPLATES.glob("*.jinja")}
PUBLISHED = {
    name: Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja" for name in ("qwen2_5", "qwen3", "llama3")
}
POCKET = {name: base_folder(name) / "chat_template.jinja" for name in ("student-qwen", "student-llama", "teacher")}
ALL = {**HAND_MADE, **{name: file.read_text() for name, file in (SHIPPED | PUBLISHED | POCKET).items()}}


def byte_tokenizer(template: str, writes_bos: bool, bos: str | None = "<s>", eos: str = "<|eos|>"):
    """Bytes as tokens, every mark a special token; with `writes_bos` a text is encoded with one before and an end token
    behind it, as some published tokenizers do."""
    vocabulary = {text: number for number, text in enumerate(MARKS)}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[character] = len(vocabulary)
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if writes_bos:
        ids = [(bos, vocabulary[bos]), (eos, vocabulary[eos])]
        made.post_processor = processors.TemplateProcessing(single=f"{bos} $A {eos}", special_tokens=ids)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<|pad|>", eos_token=eos, bos_token=bos, extra_special_tokens=MARKS
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("writes_bos", [True, False])
@pytest.mark.parametrize("template", ALL.values(), ids=ALL)
def test_training_sampling_and_scoring_begin_alike_and_end_once(template, writes_bos):
    tokenizer = byte_tokenizer(template, writes_bos)
    prompt, end, bos = chat_prompt(tokenizer, "What is 2+3?"), tokenizer.eos_token_id, tokenizer.bos_token_id
    asked = tokens.prompt_ids(tokenizer, prompt)
    rows = [encode_rows(tokenizer, [prompt], [said], 9999)[0][0] for said in ("5", "5<|eos|>", "5<|eos|>\n")]
    assert rows[0] == rows[1] == rows[2]
    answer = [token for token in rows[0]["labels"] if token != -100]
    assert rows[0]["input_ids"] == asked + answer
    assert answer == [*tokenizer("5", add_special_tokens=False)["input_ids"], end]
    scored = reward_model_ids(tokenizer, reward_model_text(prompt, "5", "whole", tokenizer))
    assert scored == rows[0]["input_ids"]
    messages = [{"role": "user", "content": "What is 2+3?"}]
    assert tokens.prompt_ids(tokenizer, messages) == asked
    begins = writes_bos or tokenizer("a" + prompt, add_special_tokens=False)["input_ids"].count(bos) > 0
    assert [token for token in asked if token == bos] == asked[:1] * begins


@pytest.mark.parametrize("template", [ALL[name] for name in ALL if name != "bos twice"])
def test_a_template_that_writes_the_first_token_needs_no_other(template):
    """What a rendered prompt encodes to is what transformers makes of the messages, but for a first token more."""
    tokenizer = byte_tokenizer(template, writes_bos=False)
    messages = [{"role": "user", "content": "Why?"}]
    theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert tokens.prompt_ids(tokenizer, chat_prompt(tokenizer, "Why?")) == theirs["input_ids"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*MARKS[:-2], "a ", "\n", "<", "|", "im_end", tokens.MARK]), max_size=8).map("".join))
def test_control_tokens_that_a_text_spells_are_letters(text):
    tokenizer = byte_tokenizer(ALL["chatml"], writes_bos=True)
    control = set(range(len(MARKS) - 2))

    def found(ids):
        return sorted(token for token in ids if token in control)

    empty, asked = chat_prompt(tokenizer, ""), chat_prompt(tokenizer, text)
    assert found(tokens.prompt_ids(tokenizer, asked)) == found(tokens.prompt_ids(tokenizer, empty))
    assert text.replace(tokens.MARK, "") in tokenizer.decode(tokens.prompt_ids(tokenizer, asked))
    assert found(tokens.answer_ids(tokenizer, f"x{text}x")) == [tokenizer.eos_token_id]
    question = Question(id="1", question=f"q{text}", answer="1", domain="math", verifier="math")
    (plain,) = prompts_for([question], tokenizer, "r1_zero", None)
    assert found(tokens.prompt_ids(tokenizer, plain)) == [tokenizer.bos_token_id]
    scored = reward_model_ids(tokenizer, reward_model_text(asked, f"x{text}x", "whole", tokenizer))
    assert found(scored) == sorted([*found(tokens.prompt_ids(tokenizer, empty)), tokenizer.eos_token_id])


def test_the_tags_of_an_answer_stay_tokens():
    tokenizer = byte_tokenizer(ALL["chatml"], writes_bos=False)
    ids = tokens.answer_ids(tokenizer, "<think>a</think>b")
    assert [MARKS.index("<think>"), MARKS.index("</think>")] == [token for token in ids if token in (9, 10)]


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
@pytest.mark.parametrize("named", ["LlamaTokenizerFast", "Qwen2Tokenizer", "PreTrainedTokenizerFast", None])
def test_a_checkpoint_is_cut_as_its_file_says(tmp_path, model_type, named):
    made = byte_tokenizer(ALL["chatml"], writes_bos=True)
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    file = tmp_path / "tokenizer_config.json"
    told = {**json.loads(file.read_text()), "tokenizer_class": named}
    file.write_text(json.dumps({key: value for key, value in told.items() if value}))
    text = " several  words\n\n 1234 and ümlaut"
    own = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    loaded = tokens.load_tokenizer(tmp_path)
    assert loaded(text, add_special_tokens=False)["input_ids"] == own
    assert loaded.decode(own) == text
    assert (loaded.eos_token, loaded.pad_token, loaded.chat_template) == ("<|eos|>", "<|pad|>", ALL["chatml"])
    assert len(loaded) == len(made)


def test_a_class_that_agrees_with_its_file_is_kept():
    folder = base_folder("student-llama")
    assert type(tokens.load_tokenizer(folder)) is type(AutoTokenizer.from_pretrained(folder))
    assert not tokens.recut(tokens.load_tokenizer(base_folder("student-qwen")), base_folder("student-qwen"))

"""Rewards that ask a model: a reward model on disk, and a judge behind an endpoint."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rewards import RewardError, RewardSet, RewardSpec, Verdict, load, reward_model_text

PROMPTS = ["What is 2 + 2 ?", "Say something kind.", "Count."]
COMPLETIONS = [
    "<think> two and two </think> The answer is 4 .",
    "<think> kindness kindness kindness kindness </think> You are doing well, truly, and it shows every single day.",
    "<think> one two three",
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny random reward model with its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForSequenceClassification

    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(["<pad>", "<eos>", *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")
    config = Qwen3Config(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, num_labels=1, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("reward_model")
    Qwen3ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def one_by_one(folder, texts):
    """The logit of each text alone, as TRL's trainer would compute it."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        ids = [torch.tensor([tokenizer(text + tokenizer.eos_token)["input_ids"]]) for text in texts]
        return [model(input_ids=each).logits[0, 0].item() for each in ids]


def test_the_text_is_prompt_and_summary_or_the_whole():
    assert reward_model_text("Q: ", COMPLETIONS[0], "summary") == "Q: The answer is 4 ."
    assert reward_model_text("Q: ", COMPLETIONS[0], "whole") == "Q: " + COMPLETIONS[0]
    assert reward_model_text("Q: ", "<think> never ends", "summary") == "Q: "
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Q"}]
    assert reward_model_text(messages, [{"role": "assistant", "content": "A"}], "whole") == "Be kind.\n\nQA"


@pytest.mark.parametrize("part", ["summary", "whole"])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_scores_do_not_depend_on_batch_or_padding(checkpoint, part, batch_size):
    reward = load("reward_model", model=str(checkpoint), part=part, batch_size=batch_size, device="cpu")
    texts = [
        reward_model_text(prompt, completion, part) for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True)
    ]
    scores = reward(prompts=PROMPTS, completions=COMPLETIONS)
    assert scores == pytest.approx(one_by_one(checkpoint, texts), abs=1e-5)
    assert len(set(scores)) == 3


def test_reasoning_does_not_move_the_score_of_the_summary(checkpoint):
    reward = load("reward_model", model=str(checkpoint))
    scores = reward(prompts=["q"] * 2, completions=["<think> a </think> ok", "<think> quite other </think> ok"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_center_scale_and_sigmoid_are_applied(checkpoint):
    (raw,) = load("reward_model", model=str(checkpoint))(prompts=["q"], completions=["a"])
    (scaled,) = load("reward_model", model=str(checkpoint), center=1.0, scale=2.0)(prompts=["q"], completions=["a"])
    (bounded,) = load("reward_model", model=str(checkpoint), squash="sigmoid")(prompts=["q"], completions=["a"])
    assert scaled == pytest.approx((raw - 1) / 2)
    assert bounded == pytest.approx(1 / (1 + 2.718281828**-raw))


def test_a_checkpoint_without_pad_token_is_refused(checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    with pytest.raises(RewardError, match="pad_token_id"):
        load("reward_model", model=str(tmp_path))(prompts=["q"], completions=["a"])


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(RewardError, match=r"config.json"):
        load("reward_model", model=str(tmp_path))(prompts=["q"], completions=["a"])
    with pytest.raises(RewardError, match="summary or whole"):
        load("reward_model", model=str(tmp_path), part="reasoning")


@pytest.fixture
def endpoint():
    """A chat endpoint; `.replies` maps a word of the prompt to (status, text), `.asked` holds the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append((self.path, self.headers.get("Authorization"), request))
            prompt = request["messages"][0]["content"]
            answers = next(answers for word, answers in server.replies.items() if word in prompt)
            status, text = answers.pop(0) if len(answers) > 1 else answers[0]
            choice = text if isinstance(text, dict) else {"message": {"content": text}}
            body = json.dumps({"choices": [choice]}).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.replies = [], {}
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr("pipeline.core.http.FIRST_REST_S", 0.0)


def judged(endpoint, completions, **args):
    judge = load("judge", endpoint=endpoint.url, model="m", **args)
    return judge(prompts=["q"] * len(completions), completions=completions, answer=["gold"] * len(completions)), judge


def test_marks_become_scores_and_only_the_answer_part_is_judged(endpoint):
    endpoint.replies = {"kind": [(200, "Well.\nScore: 8")], "rude": [(200, "<think> Score: 9 </think> Score: 1.5")]}
    scores, _ = judged(endpoint, ["<think> rude </think> kind", "rude"])
    assert scores == [0.8, 0.15]
    assert all(
        "q" in request["messages"][0]["content"] and path == "/v1/chat/completions"
        for path, _, request in endpoint.asked
    )


UNMARKED = {
    "cut in the reasoning": {"message": {"content": "<think> Score: 3"}, "finish_reason": "length"},
    "cut where nothing tells of reasoning": {"message": {"content": "Perhaps Score: 3"}, "finish_reason": "length"},
    "reasoning that never ends": {"message": {"content": "<think> Score: 3"}, "finish_reason": "stop"},
    "all in a parsed reasoning": {"message": {"content": None, "reasoning_content": "Score: 3"}},
}


@pytest.mark.parametrize("reply", UNMARKED.values(), ids=UNMARKED.keys())
def test_a_judge_that_did_not_come_to_its_mark_gives_none(endpoint, no_waiting, reply):
    endpoint.replies = {"fine": [(200, "Score: 5")], "odd": [(200, reply)]}
    scores, judge = judged(endpoint, ["fine", "odd"], max_tokens=9000)
    assert scores == [0.5, None]
    assert [verdict and verdict.name for verdict in judge.verdicts] == [None, "SCORER_FAILED"]
    assert {request["max_tokens"] for _, _, request in endpoint.asked} == {9000}


def test_what_the_policy_wrote_is_inserted_and_never_formatted(endpoint):
    endpoint.replies = {"{answer}": [(200, "Score: 5")]}
    scores, _ = judged(endpoint, ["{answer} {reference} {question} {0} %s"])
    assert scores == [0.5]
    assert endpoint.asked[0][2]["messages"][0]["content"].count("{answer} {reference} {question} {0} %s") == 1


def test_equal_questions_are_asked_once_and_remembered_on_disk(endpoint, tmp_path):
    endpoint.replies = {"fine": [(200, "Score: 7")]}
    cache = str(tmp_path / "marks.jsonl")
    assert judged(endpoint, ["fine"] * 5, cache=cache)[0] == [0.7] * 5
    assert judged(endpoint, ["fine"], cache=cache)[0] == [0.7]
    assert len(endpoint.asked) == 1


def test_busy_endpoints_are_asked_again(endpoint, no_waiting):
    endpoint.replies = {"fine": [(429, ""), (503, ""), (200, "Score: 10")]}
    assert judged(endpoint, ["fine"])[0] == [1.0]
    assert len(endpoint.asked) == 3


@pytest.mark.parametrize(
    "reply", [(200, "no mark"), (200, "Score: 11"), (200, "Score: 7/10 or 8"), (400, ""), (500, "")]
)
def test_a_reply_without_a_mark_is_none_and_counted(endpoint, no_waiting, reply):
    endpoint.replies = {"fine": [(200, "Score: 5")], "odd": [reply]}
    spec = RewardSpec(use="judge", args={"endpoint": endpoint.url, "model": "m", "retries": 1})
    reward_set = RewardSet([spec])
    assert reward_set.functions[0](prompts=["q", "q"], completions=["fine", "odd"]) == [0.5, None]
    assert reward_set.functions[0].counted[Verdict.SCORER_FAILED] == 1


def test_an_endpoint_that_never_answers_is_an_error_and_not_a_zero(no_waiting):
    judge = load("judge", endpoint="http://127.0.0.1:9/v1", model="m", retries=1)
    with pytest.raises(RewardError, match=r"127.0.0.1:9.*no completion of 1 could be judged.*Connect"):
        judge(prompts=["q"], completions=["a"])


def test_the_key_comes_from_the_environment(endpoint, monkeypatch):
    endpoint.replies = {"fine": [(200, "Score: 5")]}
    with pytest.raises(RewardError, match="JUDGE_KEY"):
        load("judge", endpoint=endpoint.url, model="m", api_key_env="JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", "k")
    judged(endpoint, ["fine"], api_key_env="JUDGE_KEY")
    assert endpoint.asked[0][1] == "Bearer k"


def test_a_template_must_show_the_answer():
    with pytest.raises(RewardError, match=r"{answer}"):
        load("judge", endpoint="http://x/v1", model="m", template="{question}")


def test_a_broken_cache_line_is_named(tmp_path):
    (tmp_path / "marks.jsonl").write_text('{"key": "a", "mark": 0.5}\nbroken\n')
    with pytest.raises(RewardError, match=r"marks.jsonl line 2"):
        load("judge", endpoint="http://x/v1", model="m", cache=str(tmp_path / "marks.jsonl"))

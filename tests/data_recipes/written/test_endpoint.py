"""Annotators and rewriters behind an endpoint: concurrent, kept as they answer, and one bad answer costs one answer."""

import random
import threading

import pytest

from data_recipes.question import Question
from data_recipes.written.annotators import EndpointAnnotator, make_annotator
from data_recipes.written.endpoint import Endpoint, NoReply
from data_recipes.written.preferences import make_pairs
from data_recipes.written.rewriting import EndpointRewriter, make_rewriter, rewritten
from pipeline.config.data import Asking, RewriterSettings
from pipeline.config.stages import RewardModelStage
from pipeline.core.chat import ChatReply, ChatRequest
from pipeline.core.errors import ConfigError, RunError
from tests.pipeline.engines.fake_server import FakeChat

ASKING = Asking(concurrency=4, timeout_s=300.0)


@pytest.fixture(autouse=True)
def no_rests(monkeypatch):
    monkeypatch.setattr("pipeline.core.http.FIRST_REST_S", 0.0)


def request(text: str) -> ChatRequest:
    return ChatRequest((("user", text),), 0.0, 64)


def replies(server, texts, kept=None, on_reply=lambda: None, asking=ASKING):
    endpoint = Endpoint(server.api, "m", asking)
    endpoint.ask_all([(request(text), 0) for text in texts], kept, on_reply)
    return [endpoint.reply(request(text)) for text in texts]


TEXTS = [f"text {number}" for number in range(12)]


def test_requests_go_out_together_and_never_more_than_asked_for():
    together, under_way, most = threading.Barrier(4, timeout=60), [], []

    def says(text):
        under_way.append(text)
        most.append(len(under_way))
        together.wait()
        under_way.remove(text)
        return text.upper()

    assert [reply.text for reply in replies(FakeChat(says), TEXTS)] == [text.upper() for text in TEXTS]
    assert max(most) <= 4


def test_each_answer_is_a_sign_of_life_and_equal_requests_are_asked_once():
    server, beats = FakeChat(lambda text: "yes"), []
    replies(server, [*TEXTS, *TEXTS], on_reply=lambda: beats.append(1))
    assert len(beats) == len(server.answered) == len(TEXTS)


def test_what_was_answered_before_a_server_failed_is_not_asked_again(tmp_path):
    kept = tmp_path / "answers.jsonl"
    failing = FakeChat(lambda text: f"first {text}" if len(failing.answered) < 5 else 503)
    with pytest.raises(RunError, match=r"failed: status 503.*run the same command"):
        replies(failing, TEXTS, kept, asking=Asking(concurrency=1, timeout_s=300.0))
    mended = FakeChat(lambda text: f"second {text}")
    found = [reply.text for reply in replies(mended, TEXTS, kept)]
    assert found == [f"{'first' if number < 5 else 'second'} {text}" for number, text in enumerate(TEXTS)]
    assert len(mended.answered) == len(TEXTS) - 5


def test_an_answer_that_a_crash_tore_is_asked_for_again(tmp_path):
    kept, server = tmp_path / "answers.jsonl", FakeChat(lambda text: "yes")
    replies(server, TEXTS, kept)
    kept.write_bytes(kept.read_bytes()[:-20])
    assert [reply.text for reply in replies(server, TEXTS, kept)] == ["yes"] * len(TEXTS)
    assert len(server.answered) == len(TEXTS) + 1


@pytest.mark.parametrize("status", [400, 413, 500])
@pytest.mark.parametrize("place", [0, 5, 11])
def test_one_request_that_fails_is_one_without_a_reply(status, place):
    server = FakeChat(lambda text: status if text == TEXTS[place] else "yes")
    found = replies(server, TEXTS)
    assert isinstance(found.pop(place), NoReply)
    assert {reply.text for reply in found} == {"yes"}


@pytest.mark.parametrize("answer", [{"message": {"content": None}, "finish_reason": "stop"}, {"message": {}}, {"a": 1}])
def test_an_answer_without_words_is_one_without_a_reply_or_an_empty_one(answer):
    server = FakeChat(lambda text: answer if text == TEXTS[3] else "yes")
    found = replies(server, TEXTS)
    odd = found.pop(3)
    assert isinstance(odd, NoReply) or odd.text == ""
    assert {reply.text for reply in found} == {"yes"}


@pytest.mark.parametrize(
    ("status", "error", "part"),
    [(401, ConfigError, "OPENAI_API_KEY"), (403, ConfigError, "OPENAI_API_KEY"), (404, RunError, "status 404"),
     (400, RunError, "status 400"), (500, RunError, "status 500")],
)  # fmt: skip
def test_a_server_that_answers_nothing_is_an_error(status, error, part):
    with pytest.raises(error, match=part):
        replies(FakeChat(lambda text: status), TEXTS)


def test_a_server_that_is_not_there_is_an_error():
    server = FakeChat(lambda text: "yes")
    server.stop()
    with pytest.raises(RunError, match=r"ConnectError.*Start or mend it"):
        replies(server, TEXTS)


def test_the_key_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = FakeChat(lambda text: "yes")
    replies(server, TEXTS)
    assert set(server.keys) == {"Bearer secret"}


def annotator(server) -> EndpointAnnotator:
    settings = RewardModelStage(annotator="endpoint", url=server.api, model="m", asking=ASKING)
    return make_annotator(settings, "helpful", random.Random(0))


def choice(content, finish="stop", **more):
    return {"message": {"content": content, **more}, "finish_reason": finish}


SCORES = {
    "a number alone": (choice("7"), 7.0),
    "a fraction of ten": (choice("Score: **7.5**/10."), 7.5),
    "the scale named": (choice("On a scale from 0 to 10, I give 7."), 7.0),
    "ten": (choice("10/10"), 10.0),
    "after reasoning": (choice("<think>Maybe 3, or 4 of 10.</think>\n\n8"), 8.0),
    "after reasoning that the prompt opened": (choice("Maybe 3, or 4.</think>8"), 8.0),
    "after two pieces of reasoning": (choice("<think>3</think>4<think>5</think>6"), 6.0),
    "a reasoning parser": (choice("8", reasoning_content="Maybe 3."), 8.0),
    "a newer reasoning parser": (choice("8", reasoning="Maybe 3."), 8.0),
    "no finish reason": ({"message": {"content": "8"}}, 8.0),
    "reasoning that never ends": (choice("<think>Maybe 3, or 4"), None),
    "reasoning that begins again": (choice("<think>3</think>4<think>5"), None),
    "cut in the reasoning, of which nothing tells": (choice("Maybe 3", "length"), None),
    "cut in a parsed reasoning": (choice(None, "length", reasoning_content="Maybe 3"), None),
    "a parsed reasoning and no more": (choice(None, reasoning_content="Maybe 3"), None),
    "filtered": (choice("7", "content_filter"), None),
    "nothing after the reasoning": (choice("<think>3</think>"), None),
    "several numbers": (choice("7 for style, 3 for facts"), None),
    "too much": (choice("11"), None),
    "below nothing": (choice("-3"), None),
    "words": (choice("Very good."), None),
}


@pytest.mark.parametrize(("answer", "score"), SCORES.values(), ids=SCORES.keys())
def test_a_score_is_the_number_after_the_reasoning(answer, score):
    annotate = annotator(FakeChat(lambda text: answer))
    assert annotate("q", "a") == score
    assert len(annotate.unscored) == (score is None)


def test_an_annotator_has_room_to_think():
    server = FakeChat(lambda text: "7")
    annotator(server)("q", "a")
    assert server.requests[0]["max_tokens"] == RewardModelStage.model_fields["annotator_max_tokens"].default >= 4096


def test_a_bad_answer_is_counted_and_the_others_make_the_pairs(tmp_path):
    answers = {"good": iter(["9", "no idea", "9", "9"]), "bad": iter(["1", "1", "<think>1", "1"]), "mute": iter("abcd")}
    lock = threading.Lock()

    def says(text):
        with lock:
            return next(answers[text.rpartition("\n")[2]])

    server = FakeChat(says)
    annotate = annotator(server)
    annotate.prepare([("q", name) for name in answers for _ in range(4)], tmp_path / "kept.jsonl", lambda: None)
    assert len(server.requests) == 12
    [pair], dropped = make_pairs("q", list(answers), str, annotate, 4, 1.0, random.Random(0))
    assert (pair.chosen, pair.rejected, pair.gap, dropped) == ("good", "bad", 8.0, [])
    assert len(server.requests) == 12
    assert sorted(row["reason"] for row in annotate.unscored) == ["no_score"] * 5 + ["unfinished"]


def test_a_question_without_two_scored_answers_makes_no_pair():
    scores = {"good": 9.0, "bad": None}
    kept, [rejected] = make_pairs("q", list(scores), str, lambda _, answer: scores[answer], 4, 1.0, random.Random(0))
    assert kept == [] and rejected.reason == "not_scored"


QUESTION = Question(id="1", domain="d", question="What is 1+2?", answer="3", verifier="exact")
RIGHT = "<think>I add.</think>It is 3."
REWRITTEN = {
    "as asked": (choice("<rewritten> I add. </rewritten>\nIt is 3."), RIGHT, ""),
    "as asked, after reasoning": (choice("<think>How?</think><rewritten>I add.</rewritten>It is 3."), RIGHT, ""),
    "as asked, with a parser": (choice("<rewritten>I add.</rewritten>It is 3.", reasoning_content="How?"), RIGHT, ""),
    "R1's shape": (choice("<think>I add.</think>It is 3."), RIGHT, ""),
    "R1's shape after reasoning": (choice("<think>How?</think>\n<think>I add.</think>It is 3."), RIGHT, ""),
    "R1's shape after an opened one": (choice("How?</think>\n<think>I add.</think>It is 3."), RIGHT, ""),
    "cut": (choice("<rewritten>I add.</rewritten>It is", "length"), None, "rewriting: cut_off"),
    "cut in the reasoning": (choice("<think>How?", "length"), None, "rewriting: cut_off"),
    "reasoning that never ends": (choice("<think>How?"), None, "rewriting: unfinished"),
    "reasoning alone": (choice("<think>How?</think>"), None, "rewriting: unfinished"),
    "no shape": (choice("I add. It is 3."), None, "rewriting: unreadable"),
    "no shape after reasoning": (choice("How?</think>I add. It is 3."), None, "rewriting: unreadable"),
    "no summary": (choice("<rewritten>I add.</rewritten> "), None, "rewriting: unreadable"),
    "words between": (choice("<think>How?</think>So: <think>I add.</think>It is 3."), None, "rewriting: unreadable"),
}


@pytest.mark.parametrize(("answer", "text", "reason"), REWRITTEN.values(), ids=REWRITTEN.keys())
def test_a_rewritten_answer_is_what_stands_after_the_reasoning(answer, text, reason):
    server = FakeChat(lambda _: answer)
    rewriter = make_rewriter(RewriterSettings(kind="endpoint", url=server.api, model="m"))
    assert isinstance(rewriter, EndpointRewriter)
    assert rewritten(rewriter, QUESTION, "<think>1+2=3</think><answer>3</answer>") == (text, reason)


def test_a_reply_read_from_the_disk_is_the_reply(tmp_path):
    text = "a\u2028b\r\n<think>\x85"
    server = FakeChat(lambda _: choice(text, "length"))
    for _ in range(2):
        assert replies(server, ["t"], tmp_path / "kept.jsonl") == [ChatReply(text, "length")]
    assert len(server.answered) == 1

"""Why samples are dropped, and what a rewriting keeps."""

import pytest

from data_recipes.cleaning.filters import reason_to_drop, repeated_share
from data_recipes.question import Question
from data_recipes.written.rewriting import keep_words, make_rewriter, rewrite_pocket
from pipeline.config.data import FilterSettings, RewriterSettings
from rewards import Verdict, judge_answer, language_share, split_response

RULES = FilterSettings(format="r1_zero")
GOOD = "<think>First 1+1=2. Then 2+1=3.</think><answer>3</answer>"


def question(language: str = "en") -> Question:
    return Question(id="q", domain="d", question="What is 1+1+1?", answer="3", verifier="exact", language=language)


@pytest.mark.parametrize(
    ("text", "finish", "verdict", "rules", "reason"),
    [
        (GOOD, "stop", Verdict.CORRECT, RULES, ""),
        (GOOD, "length", Verdict.CORRECT, RULES, "truncated"),
        (GOOD, "stop", Verdict.WRONG, RULES, "wrong"),
        (GOOD, "stop", Verdict.NO_ANSWER, RULES, "no_answer"),
        (GOOD, "stop", Verdict.GOLD_UNUSABLE, RULES, "gold_unusable"),
        (GOOD, "stop", Verdict.SCORER_FAILED, RULES, "scorer_failed"),
        (GOOD, "stop", Verdict.WRONG, RULES.model_copy(update={"correct": False}), ""),
        (GOOD, "stop", None, RULES, ""),
        ("The answer is 3.", "stop", Verdict.CORRECT, RULES, "format"),
        (GOOD, "stop", Verdict.CORRECT, FilterSettings(format="r1"), "format"),
        ("<think>First 1+1=2.</think>It is 3.", "stop", Verdict.CORRECT, RULES, "format"),
        (GOOD.replace("Then", "再算"), "stop", Verdict.CORRECT, RULES, "mixed_language"),
        (GOOD, "stop", Verdict.CORRECT, RULES.model_copy(update={"min_thinking_words": 50}), "short_thinking"),
        (GOOD, "stop", Verdict.CORRECT, RULES.model_copy(update={"max_paragraph_words": 5}), "long_paragraph"),
        (GOOD.replace("First", "```x``` First"), "stop", Verdict.CORRECT, RULES, "code_block"),
    ],
)
def test_the_reason_to_drop(text, finish, verdict, rules, reason):
    assert reason_to_drop(text, finish, "en", verdict, rules) == reason


def test_a_chain_of_thought_that_goes_round_is_repetition():
    text = f"<think>{'so it must be that one and one is two ' * 6}</think><answer>3</answer>"
    assert reason_to_drop(text, "stop", "en", Verdict.CORRECT, RULES) == "repetition"


def test_repeated_share_counts_repeated_ngrams():
    assert repeated_share("a b c d", 2) == 0.0
    assert repeated_share("a b a b", 2) == pytest.approx(1 / 3)
    assert repeated_share("a", 2) == 0.0


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_pocket_rewriting_is_in_the_questions_language_keeps_the_sums_and_stays_correct(language):
    mixed = "<think>First 1+1=2.再算2+1=4。 Wait, 2+1=3.等等，再检查。先算1+1=2。 Then 2+1=3.</think><answer>3</answer>"
    row = question(language)
    text = rewrite_pocket(row, mixed)
    assert language_share(text, language) == 1.0
    assert [part in text for part in ("1+1=2", "2+1=4", "2+1=3")] == [True] * 3
    assert judge_answer(text, row.columns()) is Verdict.CORRECT
    assert split_response(text).well_formed and "<answer>" not in text


def test_reasoning_without_sums_cannot_be_rewritten():
    assert rewrite_pocket(question(), "<think>Easy.</think><answer>3</answer>") is None


def test_without_a_rewriter_only_the_shape_changes():
    assert keep_words(question(), GOOD) == "<think>First 1+1=2. Then 2+1=3.</think>3"
    assert make_rewriter(RewriterSettings()) is keep_words


@pytest.mark.parametrize("settings", [{"kind": "endpoint"}, {"kind": "none", "url": "http://x"}])
def test_an_endpoint_is_named_exactly_when_it_is_used(settings):
    with pytest.raises(ValueError, match="kind"):
        RewriterSettings(**settings)


def test_the_endpoint_rewriter_asks_the_server_and_returns_its_words():
    """A real HTTP server that answers as OpenAI-compatible ones do."""
    import json
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            message = {"role": "assistant", "content": "<think>I add.</think>It is 3."}
            body = json.dumps(
                {"id": "1", "object": "chat.completion", "created": 0, "model": "m",
                 "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
            ).encode()  # fmt: skip
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        rewriter = make_rewriter(RewriterSettings(kind="endpoint", url=url, model="m"))
        assert rewriter(question("zh"), GOOD) == "<think>I add.</think>It is 3."
    finally:
        server.shutdown()
    assert "Chinese" in asked[0]["messages"][0]["content"]
    assert GOOD in asked[0]["messages"][1]["content"]

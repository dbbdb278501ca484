"""From samples to rows: a full quota ends the sampling, and a server that rewrites is asked for what is kept."""

import logging
from random import Random
from types import SimpleNamespace

import pytest

from data_recipes.question import Question
from data_recipes.written.annotators import make_annotator
from data_recipes.written.rewriting import make_rewriter
from pipeline.config.data import Asking, FilterSettings, RewriterSettings
from pipeline.config.loading import load_profile
from pipeline.config.stages import ColdStartDataStage, RewardModelStage
from pipeline.core.errors import RunError
from pipeline.engines import Completion, Sampling
from pipeline.steps import sampled_rows
from pipeline.steps.annotation import judged_pairs
from pipeline.steps.context import StageContext
from pipeline.steps.sampled_rows import REWRITTEN, collect_rows
from tests.pipeline.engines.fake_server import FakeChat
from tests.pipeline.interrupts import interrupts_heeded, press

SAMPLES = 4


class Silent:
    def __init__(self, *_, **__):
        self.update = lambda *_, **__: None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Policy:
    """Answers every question rightly, each time in other words."""

    tokenizer = staticmethod(lambda prompts, **_: {"input_ids": [[1]] * len(prompts)})

    def __init__(self):
        self.prompts = 0

    def generate(self, prompts, n, sampling, progress=None):
        self.prompts += len(prompts)
        return [[self.answer(number) for number in range(n)] for _ in prompts]

    def answer(self, number):
        words = ("One", "Two", "Three", "Four")[number]
        return Completion([1, 2], f"<think>{words} and so it is seven.</think><answer>7</answer>", None, "stop")


@pytest.fixture
def collect(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.core.http.FIRST_REST_S", 0.0)
    rows = [Question(id=str(i), domain="d", question=f"Q{i}?", answer="7", verifier="exact") for i in range(12)]
    monkeypatch.setattr(sampled_rows, "training_questions", lambda ctx, groups: rows)

    def collect(policy, rewriter=None, **settings):
        filters = FilterSettings(min_language_share=None)
        config = ColdStartDataStage(
            samples_per_question=SAMPLES,
            shard_questions=4,
            filters=filters,
            sampling=Sampling(max_tokens=64),
            **{"max_rows": None, **settings},
        )
        inputs = {"r1_zero": SimpleNamespace(folder=tmp_path)}
        pool = SimpleNamespace(current=policy, serve=lambda *_: policy)
        ctx = StageContext("cold_start_data", "test", load_profile("smoke").profile, config, inputs, tmp_path, "cpu",
                           logging.getLogger(), Silent, pool)  # fmt: skip
        return collect_rows(ctx, rewriter)

    return collect


def served(server) -> RewriterSettings:
    return make_rewriter(
        RewriterSettings(kind="endpoint", url=server.api, model="m", asking=Asking(concurrency=2, timeout_s=300.0))
    )


@pytest.mark.parametrize(("most", "sampled"), [(1, 4), (4, 4), (5, 8), (None, 12)])
def test_nothing_is_sampled_once_the_rows_are_there(collect, most, sampled):
    policy = Policy()
    rows, dropped, funnel = collect(policy, max_rows=most)
    assert (len(rows), policy.prompts, funnel.samples) == (most or 12, sampled, sampled * SAMPLES)
    assert len(rows) + len(dropped) == funnel.samples


def good(text: str) -> str:
    return f"<rewritten>{text[-60:].split('<think>')[1].split('</think>')[0]}</rewritten>The answer is 7 ."


def test_a_server_is_asked_for_no_more_answers_than_are_kept(collect, monkeypatch):
    beats = []
    monkeypatch.setattr("pipeline.steps.annotation.beat", lambda: beats.append(1))
    server = FakeChat(good)
    rows, dropped, _ = collect(Policy(), served(server), keep_per_question=1)
    assert {row["response"] for row in rows} == {"<think>One and so it is seven.</think>The answer is 7 ."}
    assert (len(rows), len(server.requests), len(beats)) == (12, 12, 12)
    assert {row["reason"] for row in dropped} == {"enough_of_this_question"}


def test_a_bad_rewriting_is_dropped_with_its_reason_and_the_next_sample_takes_its_place(collect):
    bad = {"One": {"message": {"content": "<rewritten>One"}, "finish_reason": "length"}, "Two": "No.", "Three": 400}
    server = FakeChat(lambda text: next((said for word, said in bad.items() if f"{word} and" in text), good(text)))
    rows, _, funnel = collect(Policy(), served(server), keep_per_question=1)
    assert {row["sample"] for row in rows} == {3} and len(rows) == 12
    assert funnel.dropped == {"rewriting: cut_off": 12, "rewriting: unreadable": 12, "rewriting: not_answered": 12}


def test_rewriting_goes_on_where_a_server_failed(collect, tmp_path):
    failing = FakeChat(lambda text: good(text) if len(failing.answered) < 5 else 503)
    with pytest.raises(RunError, match="run the same command"):
        collect(Policy(), served(failing))
    kept = (tmp_path / REWRITTEN).read_text().count("\n")
    mended = FakeChat(good)
    rows, _, _ = collect(Policy(), served(mended))
    assert len(rows) == 12
    assert len(mended.requests) == 12 - kept and kept == 5


def test_annotation_goes_on_where_a_server_failed_and_counts_as_progress(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.core.http.FIRST_REST_S", 0.0)
    beats = []
    monkeypatch.setattr("pipeline.steps.annotation.beat", lambda: beats.append(1))
    ctx = SimpleNamespace(folder=tmp_path, progress=Silent)
    rows = [Question(id=str(i), domain="d", question=f"Q{i}?", answer=None, verifier="none") for i in range(3)]
    samples = [(row, [Completion([1], f"<think>t</think>{words}", None, "stop") for words in ("Yes.", "No.")])
               for row in rows]  # fmt: skip
    samples.append((rows[0], [Completion([1], "<think>t", None, "length")]))

    def run(server):
        settings = RewardModelStage(annotator="endpoint", url=server.api, model="m", asking=Asking(concurrency=1))
        annotator = make_annotator(settings, "helpful", Random(0))
        return judged_pairs(ctx, "helpful", settings.scorers["helpful"], annotator, samples, Random(0))

    def says(text):
        return "9" if text.endswith("Yes.") else "2"

    failing = FakeChat(lambda text: says(text) if len(failing.answered) < 10 else 503)
    with pytest.raises(RunError, match="run the same command"):
        run(failing)
    mended = FakeChat(says)
    pairs, rejected, unfinished = run(mended)
    assert [(pair.chosen[-4:], pair.rejected[-3:], pair.gap) for pair in pairs] == [("Yes.", "No.", 7.0)] * 3
    assert (rejected, unfinished) == ([], ["Q0?"])
    assert len(beats) >= 24 and len(mended.answered) == 24 - 10


def of_languages(monkeypatch, languages):
    rows = [
        Question(id=str(i), domain="d", question=f"Q{i}?", answer="7", verifier="exact", language=language)
        for i, language in enumerate(languages)
    ]
    monkeypatch.setattr(sampled_rows, "training_questions", lambda ctx, groups: rows)


def test_sampling_goes_on_until_every_language_has_its_share(collect, monkeypatch):
    of_languages(monkeypatch, ["zh"] * 6 + ["en"] * 2 + ["zh"] * 4)
    policy = Policy()
    rows, dropped, funnel = collect(policy, max_rows=4, languages={"en": 0.5, "zh": 0.5})
    assert [row["language"] for row in rows] == ["zh", "zh", "en", "en"] and policy.prompts == 8
    assert funnel.dropped["enough_of_this_language"] == 4 * SAMPLES
    assert funnel.as_metrics()["languages"] == {"zh": 2, "en": 2}
    assert len(rows) + len(dropped) == funnel.samples


def test_a_language_that_runs_short_is_told_and_gives_nothing_to_others(collect, monkeypatch, caplog):
    of_languages(monkeypatch, ["zh"] * 11 + ["en"])
    rows, _, funnel = collect(Policy(), max_rows=8, languages={"en": 0.75, "zh": 0.25})
    assert funnel.languages == {"zh": 2, "en": 1} and len(rows) == 3
    assert "'en' 1 of 6" in caplog.text


def test_no_answer_of_a_language_that_is_full_is_rewritten(collect, monkeypatch):
    of_languages(monkeypatch, ["en"] * 11 + ["zh"])
    server = FakeChat(good)
    collect(Policy(), served(server), max_rows=2, languages={"en": 0.5, "zh": 0.5})
    assert len(server.requests) == 4 + SAMPLES  # the first shard's questions; then the last, answered in English


@pytest.mark.parametrize(
    ("most", "shares", "quotas"),
    [
        (300, {"en": 0.5, "zh": 0.5}, {"en": 150, "zh": 150}),
        (10, {"en": 1 / 3, "zh": 1 / 3, "de": 1 / 3}, {"en": 4, "zh": 3, "de": 3}),
        (7, {"en": 0.9, "zh": 0.1}, {"en": 6, "zh": 1}),
        (100, {"en": 0.29, "zh": 0.71}, {"en": 29, "zh": 71}),
    ],
)
def test_shares_of_languages_make_up_all_rows(most, shares, quotas):
    assert ColdStartDataStage(max_rows=most, languages=shares).language_quotas == quotas


@pytest.mark.parametrize("wrong", [{"max_rows": None}, {"languages": {"en": 0.5, "zh": 0.4}}, {"languages": {}}])
def test_shares_of_languages_that_are_of_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="languages"):
        ColdStartDataStage(**{"max_rows": 10, "languages": {"en": 0.5, "zh": 0.5}, **wrong})


def test_ctrl_c_keeps_the_shard_under_way(collect):
    class Interrupted(Policy):
        def generate(self, *arguments):
            press()
            return super().generate(*arguments)

    first, second = Interrupted(), Policy()
    with interrupts_heeded(), pytest.raises(KeyboardInterrupt):
        collect(first)
    collect(second)
    assert (first.prompts, second.prompts) == (4, 8)

"""JSON lines and durable writes: what is written is what is read, and damage is named."""

import gzip
import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.sources.tables import read_jsonl
from pipeline.core.errors import ConfigError, RunError
from pipeline.core.files import append_json_line, read_json_lines, read_user_json_lines, write_json_lines
from pipeline.report.records import read_lines
from pipeline.training.records import append_record, forget_later_steps, read_records
from rewards.own.samples import read_rows

ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\ufeff\x00"
"""What some reader or other takes for the end of a line, or for nothing."""
TEXTS = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(ENDS)), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
ROWS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=4)
READERS = {
    "a run's file": lambda path: [row for _, row in read_json_lines(path)],
    "a growing file": lambda path: [row for _, row in read_json_lines(path, torn=True)],
    "a user's file": lambda path: [row for _, row in read_user_json_lines(path)],
    "a training's records": read_records,
    "the report": lambda path: list(read_lines(path)),
    "a source of questions": lambda path: [row for _, row in read_jsonl(path)],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("rows") / "rows.jsonl"


@settings(deadline=None, max_examples=50)
@given(rows=ROWS)
def test_every_reader_gives_the_rows_that_either_writer_wrote(path, rows):
    write_json_lines(path, rows)
    written = path.read_bytes()
    path.unlink()
    for row in rows:
        append_json_line(path, row)
    assert path.read_bytes() == written if rows else written == b""
    path.write_bytes(written)
    for reader, read in READERS.items():
        assert read(path) == rows, reader


@settings(deadline=None, max_examples=50)
@given(text=TEXTS)
def test_a_completion_copied_from_a_run_is_a_sample_for_a_reward(path, text):
    append_record(path.with_name("rollouts.jsonl"), {"completion": text})
    copied = path.with_name("rollouts.jsonl").read_bytes()
    path.with_name("samples.jsonl").write_bytes(copied)
    assert read_rows(path.with_name("samples.jsonl"))[-1] == {"completion": text}
    path.with_name("rollouts.jsonl").unlink()


def test_half_a_surrogate_pair_survives(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_json_lines(path, [{"text": "half \ud83d of é"}])
    append_json_line(path, {"text": "\udfff"})
    assert [row["text"] for _, row in read_json_lines(path)] == ["half \ud83d of é", "\udfff"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_users_file_may_come_from_windows_and_lack_its_last_line_feed(tmp_path, end, mark):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(f'{mark}{{"question": "é"}}{end}{end}{{"question": "b"}}'.encode())
    assert list(read_user_json_lines(path)) == [(1, {"question": "é"}), (3, {"question": "b"})]


def test_a_users_file_may_be_compressed(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n{"a": 2}\n'))
    assert list(read_user_json_lines(path)) == [(1, {"a": 1}), (2, {"a": 2})]
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ConfigError, match=r"rows\.jsonl\.gz cannot be read"):
        list(read_user_json_lines(path))


WHOLE = b'{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("cut", range(1, len(b'{"step": 2}\n') + 1))
def test_a_line_that_a_crash_tore_is_left_out_and_goes_with_the_next_append(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE[:-cut])
    assert read_records(path) == [{"step": 1}]
    append_record(path, {"step": 3})
    assert read_records(path) == [{"step": 1}, {"step": 3}]
    assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'


@pytest.mark.parametrize("length", [0, 10, 1 << 16, 3 << 16])
def test_a_torn_line_of_any_length_is_cut_off(tmp_path, length):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(WHOLE + b'{"text": "' + b"x" * length)
    append_json_line(path, {"step": 3})
    assert [row["step"] for _, row in read_json_lines(path)] == [1, 2, 3]
    path.write_bytes(b"x" * length)
    append_json_line(path, {"step": 3})
    assert [row["step"] for _, row in read_json_lines(path)] == [3]


def test_later_steps_are_forgotten(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE + b'{"step": 3}\n{"st')
    forget_later_steps(path, 2)
    assert path.read_bytes() == WHOLE


def test_appends_of_several_threads_are_whole_lines(tmp_path):
    path = tmp_path / "rows.jsonl"

    def append(writer):
        for number in range(20):
            append_json_line(path, {"writer": writer, "number": number})

    threads = [threading.Thread(target=append, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [(row["writer"], row["number"]) for _, row in read_json_lines(path)]
    assert sorted(found) == [(writer, number) for writer in range(4) for number in range(20)]


DAMAGE = {
    "cut off": (b'{"a": 1}\n{"a": ', "line 2"),
    "no object": (b"[1]\n", "line 1"),
    "zeros": (b'{"a": 1}\n\x00\x00\n', "line 2"),
    "not UTF-8": (b'{"a": 1}\n{"a": "\xff"}\n', "line 2"),
    "too deep": (b"[" * 100_000 + b"\n", "line 1"),
}


@pytest.mark.parametrize(("content", "place"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_of_a_runs_file_is_a_fault_of_the_run_and_of_a_users_file_one_of_the_user(tmp_path, content, place):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    for read, error in ((read_json_lines, RunError), (read_user_json_lines, ConfigError)):
        with pytest.raises(error) as told:
            list(read(path))
        assert str(path) in str(told.value) and place in str(told.value)


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_json_lines(path, [{"a": 1}])

    def rows():
        yield {"a": 2}
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        write_json_lines(path, rows())
    assert json.loads(path.read_text()) == {"a": 1}

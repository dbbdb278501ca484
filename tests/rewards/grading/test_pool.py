"""The worker pool: order, deadlines, memory, crashes."""

import itertools
import os
import threading
import time

import psutil
import pytest

from rewards.grading.pool import Pool, Worker
from rewards.grading.verifiers import Job


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A module of jobs that the workers can import."""
    (tmp_path / "pool_tasks.py").write_text(
        "import ctypes, os, time\n"
        "def same(value): return value\n"
        "def nap(seconds): time.sleep(seconds); return seconds\n"
        "def power(n): return 9 ** 9 ** n\n"
        "def grab(size): return len('x' * size)\n"
        "def die(status): os._exit(status)\n"
        "def crash(_): ctypes.string_at(0)\n"
        "def stop(_): raise SystemExit(0)\n"
        "def shout(size): print('x' * size); return size\n"
        "def unpicklable(_): return lambda: None\n"
        "def pid(_): return os.getpid()\n"
        "def suicide(path): open(path, 'a').write('x'); os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name, argument=None, deadline_s=5.0: Job(f"pool_tasks:{name}", argument, deadline_s)


@pytest.fixture
def pool():
    pool = Pool(workers=2)
    yield pool
    pool.close()


def test_results_come_back_in_order(pool, tasks):
    jobs = [tasks("nap", 0.2 if number % 7 == 0 else 0) for number in range(30)] + [
        tasks("same", n) for n in range(100)
    ]
    outcomes = pool.run(jobs)
    assert [outcome.value for outcome in outcomes] == [job.payload for job in jobs]


@pytest.mark.parametrize(
    ("name", "argument", "reason"),
    [
        ("power", 9, "past its deadline"),
        ("nap", 60, "past its deadline"),
        ("grab", 1 << 40, "died"),
        ("die", 0, "died"),
        ("die", 3, "exit status 3"),
        ("crash", None, "signal 11"),
        ("stop", None, "SystemExit"),
        ("unpicklable", None, "pickle"),
    ],
)
def test_a_job_that_breaks_its_worker_fails_alone(pool, tasks, name, argument, reason):
    jobs = [tasks("same", 1), tasks(name, argument, deadline_s=0.5), tasks("same", 2), tasks("same", 3)]
    before, failed, *after = pool.run(jobs)
    assert reason in failed.failure
    assert [outcome.value for outcome in (before, *after)] == [1, 2, 3]


def test_output_of_a_job_does_not_disturb_the_results(pool, tasks):
    assert [outcome.value for outcome in pool.run([tasks("shout", 100_000), tasks("same", 1)])] == [100_000, 1]


def test_a_job_past_its_deadline_holds_nobody_longer_than_a_second_more(pool, tasks):
    pool.run([tasks("same", 0)] * 4)
    began = time.monotonic()
    pool.run([tasks("power", 9, deadline_s=1.0)])
    assert time.monotonic() - began < 2.0


def test_the_clock_starts_with_the_work_and_not_in_the_queue(pool, tasks):
    outcomes = pool.run([tasks("nap", 0.2, deadline_s=1.5) for _ in range(20)])
    assert all(outcome.failure is None for outcome in outcomes)


def test_threads_can_share_a_pool(pool, tasks):
    answers = {}

    def ask(number):
        answers[number] = [outcome.value for outcome in pool.run([tasks("same", (number, n)) for n in range(20)])]

    threads = [threading.Thread(target=ask, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: [(number, n) for n in range(20)] for number in range(4)}


def kill_soon(pool, whom, after_s: float = 0.3) -> threading.Timer:
    """Kills, in the middle of a batch, every process that `whom` gives for a supervisor."""

    def kill():
        for pid in pool.pids():
            for process in whom(psutil.Process(pid)):
                process.kill()

    timer = threading.Timer(after_s, kill)
    timer.start()
    return timer


@pytest.mark.parametrize(
    "whom",
    [lambda supervisor: [supervisor], lambda supervisor: supervisor.children()],
    ids=["supervisors", "children"],
)
def test_workers_killed_in_the_middle_of_a_batch_lose_no_job(pool, tasks, whom):
    pool.run([tasks("same", n) for n in range(4)])
    timer = kill_soon(pool, whom)
    outcomes = pool.run([tasks("nap", 0.1 + n / 1000) for n in range(12)])
    timer.join()
    assert [outcome.failure for outcome in outcomes] == [None] * 12
    assert [outcome.value for outcome in outcomes] == [0.1 + n / 1000 for n in range(12)]


def test_a_killed_pool_serves_the_next_batch(pool, tasks):
    pool.run([tasks("same", n) for n in range(4)])
    victims = pool.pids()
    for pid in victims:
        os.kill(pid, 9)
    assert [outcome.value for outcome in pool.run([tasks("same", n) for n in range(20)])] == list(range(20))
    assert not set(victims) & set(pool.pids())


def test_a_worker_that_died_before_it_read_its_jobs_is_closed(tasks):
    worker = Worker()
    worker.process.kill()
    worker.process.wait()
    with pytest.raises(BrokenPipeError):
        worker.send([(0, tasks("same", 1))])
    worker.close()
    assert worker.process.stdin.closed


def test_a_job_that_kills_its_own_worker_is_tried_no_more_than_twice(pool, tasks, tmp_path):
    [failed, fine] = pool.run([tasks("suicide", str(tmp_path / "tries")), tasks("same", 1)])
    assert "signal 9" in failed.failure and fine.value == 1
    assert (tmp_path / "tries").read_text() == "xx"


def test_a_clock_that_jumps_changes_no_deadline(pool, tasks, monkeypatch):
    jumps = itertools.cycle([0.0, 4e9, -1e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    outcomes = pool.run([tasks("nap", 0.05, deadline_s=1.0) for _ in range(6)] + [tasks("nap", 60, deadline_s=0.3)])
    assert [outcome.failure is None for outcome in outcomes] == [True] * 6 + [False]


def test_closing_leaves_no_process(tasks):
    pool = Pool(workers=2)
    pool.run([tasks("pid") for _ in range(8)])
    supervisors = [psutil.Process(pid) for pid in pool.pids()]
    family = supervisors + [child for process in supervisors for child in process.children(recursive=True)]
    pool.close()
    assert len(family) == 4
    _, alive = psutil.wait_procs(family, timeout=3)
    assert not alive

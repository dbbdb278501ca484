"""The worker pool: order, deadlines, memory, crashes."""

import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from rewards.grading.pool import Pool, Worker
from rewards.grading.verifiers import Job

HANG_S = 120.0
"""Far more than anything here takes on any machine, and far less than the jobs that never end."""

TASKS = """
import ctypes, os, time
def same(value): return value
def nap(seconds): time.sleep(seconds); return seconds
def nap_with_the_lock(seconds): ctypes.PyDLL(None).sleep(seconds)
def wait_to_be_killed_once(given):
    try:
        with open(given[0], 'x') as mark: mark.write(str(os.getpid()))
        time.sleep(3600)
    except FileExistsError: return given[1]
def compute(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
def grab(size): return len('x' * size)
def die(status): os._exit(status)
def crash(_): ctypes.string_at(0)
def stop(_): raise SystemExit(0)
def shout(size): print('x' * size); return size
def unpicklable(_): return lambda: None
def pid(_): return os.getpid()
def environment(name): return os.environ.get(name)
def leave(value): os.left = value
def found(_): return getattr(os, "left", None)
def dumpable(_): return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
def suicide(path): open(path, 'a').write('x'); os.kill(os.getpid(), 9)
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A module of jobs that the workers can import. Their deadline is one that nothing passes but what never ends."""
    (tmp_path / "pool_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name, argument=None, deadline_s=HANG_S, **more: Job(
        f"pool_tasks:{name}", argument, deadline_s, **more
    )


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


@pytest.mark.parametrize("name", ["nap", "nap_with_the_lock"])
def test_a_job_past_its_deadline_is_ended_alone_and_holds_nobody(pool, tasks, name):
    began = time.monotonic()
    before, failed, *after = pool.run([tasks("same", 1), tasks(name, 3600, deadline_s=0.3), tasks("same", 2)])
    assert "past its deadline of 0.3 s" in failed.failure
    assert [outcome.value for outcome in (before, *after)] == [1, 2]
    assert time.monotonic() - began < HANG_S


@pytest.mark.parametrize(
    ("name", "argument", "reason"),
    [
        ("die", 0, "died"),
        ("die", 3, "exit status 3"),
        ("crash", None, "signal 11"),
        ("stop", None, "SystemExit"),
        ("unpicklable", None, "pickle"),
    ],
)
def test_a_job_that_breaks_its_worker_fails_alone(pool, tasks, name, argument, reason):
    before, failed, *after = pool.run([tasks("same", 1), tasks(name, argument), tasks("same", 2), tasks("same", 3)])
    assert reason in failed.failure
    assert [outcome.value for outcome in (before, *after)] == [1, 2, 3]


def test_a_job_that_takes_more_memory_than_it_may_fails_alone(tasks):
    pool = Pool(workers=1, memory_bytes=32 << 20)
    try:
        before, failed, after = pool.run([tasks("grab", 1 << 20), tasks("grab", 256 << 20), tasks("same", 2)])
    finally:
        pool.close()
    assert "died" in failed.failure
    assert (before.value, after.value) == (1 << 20, 2)


def test_output_of_a_job_does_not_disturb_the_results(pool, tasks):
    assert [outcome.value for outcome in pool.run([tasks("shout", 100_000), tasks("same", 1)])] == [100_000, 1]


CLOCKED = """
import os, time
FILE = {file!r}
def prepare():
    # In the supervisor. A second on its clock is a byte in the file, and the clock on the wall jumps.
    time.monotonic = lambda: float(os.path.getsize(FILE))
    time.time = lambda real=time.time: real() + (-1e9 if os.path.getsize(FILE) % 2 else 4e9)
def work(seconds): open(FILE, "a").write("x" * seconds); return seconds
"""


def test_the_clock_starts_with_the_work_not_in_the_queue_and_is_not_the_one_on_the_wall(tmp_path, monkeypatch):
    """Twenty jobs of two seconds each, by a clock that their work alone moves on, have three seconds each."""
    (tmp_path / "clock").touch()
    (tmp_path / "clocked_tasks.py").write_text(CLOCKED.format(file=str(tmp_path / "clock")))
    monkeypatch.syspath_prepend(tmp_path)
    pool = Pool(workers=1)
    try:
        outcomes = pool.run([Job("clocked_tasks:work", 2, deadline_s=3.0)] * 20)
    finally:
        pool.close()
    assert [outcome.failure for outcome in outcomes] == [None] * 20
    assert (tmp_path / "clock").stat().st_size == 40


def test_time_for_which_other_processes_have_the_core_does_not_count(tasks):
    """Three workers share one core: each computes for 0.4 s, and the last is done after 1.2 s on the wall."""
    pool = Pool(workers=3)
    try:
        pool.run([tasks("nap", 0.05)] * 12)
        core = min(os.sched_getaffinity(0))
        for supervisor in map(psutil.Process, pool.pids()):
            for process in (supervisor, *supervisor.children()):
                process.cpu_affinity([core])
        outcomes = pool.run([tasks("compute", 0.4, deadline_s=0.9)] * 3)
    finally:
        pool.close()
    assert [outcome.failure for outcome in outcomes] == [None] * 3


SLOW_TO_IMPORT = """
import time
def prepare(): time.sleep(1)
def same(value): return value
"""


@pytest.mark.parametrize(("clock", "value"), [(lambda worker: 0.0, 1), (Worker.clock, None)], ids=["waits", "hangs"])
def test_a_supervisor_is_dead_by_the_time_that_passes_for_it_alone(tmp_path, monkeypatch, clock, value):
    """One that waits for a core all the while is given the time that it takes; one that does nothing is not."""
    (tmp_path / "slow_to_import.py").write_text(SLOW_TO_IMPORT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("rewards.grading.pool.SUPERVISOR_GRACE_S", 0.0)
    monkeypatch.setattr(Worker, "clock", clock)
    pool = Pool(workers=1)
    try:
        [outcome] = pool.run([Job("slow_to_import:same", 1, deadline_s=0.1)])
    finally:
        pool.close()
    assert outcome.value == value and bool(outcome.failure) == (value is None)


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


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_once_told(pool, whom, mark: Path) -> threading.Thread:
    """Kills, once a job has left its mark, every process that `whom` gives for a supervisor: that job's last, when the
    others have ended, since it would else be lost twice where another worker that is dying takes it over."""

    def kill():
        end = time.monotonic() + HANG_S
        while not (mark.exists() and mark.read_text()) and time.monotonic() < end:
            time.sleep(0.01)
        asleep = psutil.Process(int(mark.read_text())).parent().pid
        for pid in sorted(pool.pids(), key=lambda pid: pid == asleep):
            for process in whom(psutil.Process(pid)):
                process.kill()
                while not has_ended(process) and time.monotonic() < end:
                    time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "whom",
    [lambda supervisor: [supervisor], lambda supervisor: supervisor.children()],
    ids=["supervisors", "children"],
)
def test_workers_killed_in_the_middle_of_a_batch_lose_no_job(pool, tasks, whom, tmp_path):
    pool.run([tasks("same", n) for n in range(4)])
    killer = kill_once_told(pool, whom, tmp_path / "mark")
    outcomes = pool.run([tasks("wait_to_be_killed_once", (str(tmp_path / "mark"), n)) for n in range(12)])
    killer.join()
    assert [outcome.failure for outcome in outcomes] == [None] * 12
    assert [outcome.value for outcome in outcomes] == list(range(12))


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


@pytest.mark.parametrize(
    ("name", "value"),
    [("SOME_API_KEY", "x" * 20), ("MODEL", "sk-" + "a" * 20), ("PROXY", "http://me:pass@host:80")],
)
def test_keys_and_passwords_reach_no_worker_but_those_of_the_users_own_rewards(tasks, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("PLAIN", "seen")
    for trusted, seen in ((False, None), (True, value)):
        pool = Pool(workers=1, trusted=trusted)
        try:
            outcomes = pool.run([tasks("environment", name), tasks("environment", "PLAIN")])
        finally:
            pool.close()
        assert [outcome.value for outcome in outcomes] == [seen, "seen"]


def test_what_a_job_that_is_alone_leaves_behind_meets_no_other(tasks):
    pool = Pool(workers=1)
    try:
        outcomes = pool.run(
            [
                tasks("leave", "before"), tasks("found", alone=True),
                tasks("leave", "alone", alone=True), tasks("found"),
                tasks("leave", "kept"), tasks("found"),
            ]
        )  # fmt: skip
    finally:
        pool.close()
    assert [outcome.value for outcome in outcomes[1::2]] == [None, None, "kept"]


def test_others_of_the_same_user_cannot_look_into_a_worker(pool, tasks):
    assert pool.run([tasks("dumpable")])[0].value == 0


def test_closing_leaves_no_process(tasks):
    pool = Pool(workers=2)
    pool.run([tasks("pid") for _ in range(8)])
    supervisors = [psutil.Process(pid) for pid in pool.pids()]
    family = supervisors + [child for process in supervisors for child in process.children(recursive=True)]
    pool.close()
    assert len(family) == 4
    _, alive = psutil.wait_procs(family, timeout=HANG_S)
    assert not alive

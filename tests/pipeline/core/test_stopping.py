"""Ctrl-C: the first lets the work under way end at a point to go on from, the second ends it."""

import signal
import subprocess
import sys

import pytest

from pipeline.core.crew import Crew
from pipeline.core.stopping import finishing, heeding_interrupts, passing_interrupts_on, raise_if_stopped, stop_asked
from tests.pipeline.interrupts import interrupts_heeded, press


@pytest.fixture
def heeded():
    with interrupts_heeded():
        yield


def test_the_first_lets_the_work_under_way_end(heeded, capfd):
    steps = []
    with finishing("the step"):
        for step in range(5):
            if step == 2:
                press()
            steps.append(step)
            if stop_asked():
                break
    with pytest.raises(KeyboardInterrupt):
        raise_if_stopped()
    assert steps == [0, 1, 2]
    assert "after the step" in capfd.readouterr().err


def test_the_second_ends_it_at_once(heeded):
    with finishing("the step"):
        press()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_where_nothing_can_be_kept_the_first_ends_it(heeded):
    with pytest.raises(KeyboardInterrupt):
        press()
    with finishing("the step"):
        pass
    with pytest.raises(KeyboardInterrupt):
        press()


def test_what_a_crew_did_together_and_left_off_is_no_result(heeded):
    def work(context):
        with finishing("the shard"):
            press()
            return "half of it"

    with pytest.raises(KeyboardInterrupt):
        Crew().together(None, work, {})


def test_the_next_command_of_a_process_is_not_stopped(heeded):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with heeding_interrupts(), finishing("the step"):
        press()
        assert stop_asked()
    with heeding_interrupts():
        assert not stop_asked()
        raise_if_stopped()


def test_a_process_that_was_started_to_ignore_it_ignores_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with heeding_interrupts(), passing_interrupts_on():
            press()
            assert not stop_asked()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_launcher_passes_it_on_once_to_processes_out_of_the_terminals_reach():
    counts = (
        "import signal, sys, time; seen = []; signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "while not seen: time.sleep(0.01)\n"
        "sys.stdin.readline(); print(len(seen), flush=True)"
    )
    launches = (  # in a process that has started nothing else: the processes of other tests are not its own
        "import signal, subprocess, sys\n"
        "from pipeline.core.stopping import passing_interrupts_on\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with passing_interrupts_on():\n"
        "    child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdin=subprocess.PIPE,\n"
        "                             stdout=subprocess.PIPE, text=True, start_new_session=True)\n"
        "    assert child.stdout.readline() == 'ready\\n'\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('counted', child.communicate('go on\\n')[0].strip())\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n"
        "        print('stopped, with no process left')\n"
    )
    told = subprocess.run([sys.executable, "-c", launches, counts], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "counted 1\nstopped, with no process left\n"), told.stderr

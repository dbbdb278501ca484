"""A user's reward is imported and made in a process of its own, and nowhere else."""

import os

import pytest

import rewards
from rewards import RewardContext, RewardError, RewardSet, RewardSpec

HANG_S = 120.0
"""Far more than any reward here takes to load that can be loaded."""


def called(reward_set):
    return reward_set.functions[0](prompts=["q", "q"], completions=["a", "b"], completion_ids=[[1], [1]])


def test_a_users_code_is_loaded_in_a_process_of_its_own_alone(tmp_path):
    path = tmp_path / "telling.py"
    path.write_text(
        "import os\nfrom pathlib import Path\n"
        "with Path(__file__).with_name('pids').open('a') as file: file.write(f'{os.getpid()}\\n')\n"
        "def zero(completions, **kwargs): return [0.0] * len(completions)\n"
    )
    reward_set = RewardSet([RewardSpec(use="telling.py:zero")], RewardContext(folder=tmp_path))
    try:
        assert called(reward_set) == [0.0, 0.0]
        assert rewards.check(f"{path}:zero") == 0
    finally:
        reward_set.close()
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2 and str(os.getpid()) not in pids


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os\nos._exit(3)", r"cannot be loaded: the scoring process died \(exit status 3\)"),
        ("import time\ntime.sleep(3600)", "cannot be loaded: past its deadline of 0.5 s"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_code_that_dies_or_hangs_when_it_is_loaded_is_an_error_that_names_it(tmp_path, monkeypatch, code, message):
    monkeypatch.setattr("rewards.own.custom.LOAD_S", 0.0 if "sleep" in code else HANG_S)
    (tmp_path / "bad.py").write_text(code)
    with pytest.raises(RewardError, match=message) as error:
        RewardSet([RewardSpec(use="bad.py:f", deadline_s=0.5)], RewardContext(folder=tmp_path))
    assert "bad.py:f" in str(error.value)

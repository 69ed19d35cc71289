"""Checkpoints of a policy's training: whole, of this training, or refused."""

import pytest
import torch

from llmcourse.alignment.policy import load_policy_state, save_policy_state
from llmcourse.training.checkpoints import checkpoint_paths, load_checkpoint

RUN = {"method": "PPO", "config.clip": 0.2, "stop": [0, 3], "value_clip": float("inf")}


def state(number):
    return {"policy": {"w": torch.full((2, 3), float(number))}, "n_updates": number}


def test_what_is_saved_is_loaded_and_two_files_stay(tmp_path):
    folder = tmp_path / "new" / "one"
    assert load_policy_state(folder, RUN) is None
    for number in (1, 2, 3):
        save_policy_state(folder, RUN, number, state(number))
    assert [path.stem[-1] for path in checkpoint_paths(folder)] == ["2", "3"]
    found = load_policy_state(folder, RUN)
    assert found["n_updates"] == 3
    assert torch.equal(found["policy"]["w"], torch.full((2, 3), 3.0))


def test_a_future_that_did_not_come_is_deleted(tmp_path):
    for number in (4, 5, 2):
        save_policy_state(tmp_path, RUN, number, state(number))
    assert load_policy_state(tmp_path, RUN)["n_updates"] == 2


def test_a_damaged_file_is_passed_over(tmp_path):
    save_policy_state(tmp_path, RUN, 1, state(1))
    newest = save_policy_state(tmp_path, RUN, 2, state(2))
    newest.write_bytes(newest.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="damaged"):
        assert load_policy_state(tmp_path, RUN)["n_updates"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config.clip": 0.3}, "config.clip must be 0.2, got 0.3"),
        ({"stop": [0]}, r"stop must be \[0, 3\], got \[0\]"),
        ({"new": 1}, "new must be None, got 1"),
    ],
)
def test_another_training(tmp_path, change, message):
    save_policy_state(tmp_path, RUN, 1, state(1))
    with pytest.raises(ValueError, match=f"another training: {message}"):
        load_policy_state(tmp_path, RUN | change)


def test_nothing_whole(tmp_path):
    save_policy_state(tmp_path, RUN, 1, state(1)).write_bytes(b"no")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="a whole checkpoint, got 1 damaged"),
    ):
        load_policy_state(tmp_path, RUN)


def test_weights_from_which_nothing_good_comes_are_not_saved(tmp_path):
    save_policy_state(tmp_path, RUN, 1, state(1))
    critic = state(2) | {"value_head": state("nan")["policy"]}
    for bad in (state("inf"), critic):
        with pytest.raises(
            FloatingPointError, match="step 2 needs finite .* but w has"
        ):
            save_policy_state(tmp_path, RUN, 2, bad)
    assert load_policy_state(tmp_path, RUN)["n_updates"] == 1


def test_checkpoints_of_a_training_on_pairs_and_of_a_policy_are_no_others(tmp_path):
    save_policy_state(tmp_path, RUN, 1, state(1))
    with pytest.raises(ValueError, match="holds checkpoints of another training"):
        load_checkpoint(tmp_path)

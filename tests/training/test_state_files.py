"""Nested states, written and read back, and every way in which a file can be wrong."""

import json
import math
import random
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from llmcourse.training.checkpoints import read_state, write_state

STATE = {
    "tensors": {
        "matrix": torch.arange(6.0).view(2, 3),
        "scalar": torch.tensor(0.1, dtype=torch.float64),
        "none": torch.empty(0, dtype=torch.int64),
        "flat": torch.empty(0, 4),
        "bytes": torch.tensor([0, 255, 7], dtype=torch.uint8),
        "yes": torch.tensor([True, False]),
        "half": torch.tensor([1.5, math.inf, math.nan], dtype=torch.bfloat16),
    },
    "numbers": [0, -3, 2**63, 0.1 + 0.2, 1e-320, -0.0, math.inf, -math.inf, True, None],
    "text": 'a "quoted" line\nand 狐',
    "pair": (0.9, [0.5, (1,)], ()),
    "by number": {0: torch.ones(2), 1: {"mean": [torch.zeros(1)]}},
    "dollars": {"$tensor": "x", "other": 1},
    "empty": {"a": {}, "b": []},
}


def same(one, other):
    if isinstance(one, torch.Tensor):
        kinds = one.dtype == other.dtype and one.shape == other.shape
        return kinds and torch.equal(one.nan_to_num(9), other.nan_to_num(9))
    if isinstance(one, dict):
        keys = [*one] == [*other]
        return keys and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=True)
        return type(one) is type(other) and all(same(a, b) for a, b in pairs)
    return type(one) is type(other) and repr(one) == repr(other)


# Worked example


def test_worked_example_of_names_in_the_file(tmp_path):
    """What the module's docstring shows, as any reader of safetensors sees it."""
    path = tmp_path / "state.safetensors"
    write_state(path, {"step": 3, "moments": {0: (torch.ones(2), 0.5)}})
    assert same(load_file(path), {"moments/0/0": torch.ones(2)})
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["state"]) == {
            "step": 3,
            "moments": {"$dict": [[0, {"$tuple": [{"$tensor": "moments/0/0"}, 0.5]}]]},
        }


# Law


def test_a_state_is_read_as_it_was_written(tmp_path):
    write_state(tmp_path / "a", STATE)
    assert same(read_state(tmp_path / "a"), STATE)


def test_what_is_read_is_not_tied_to_the_file(tmp_path):
    write_state(tmp_path / "a", STATE)
    state = read_state(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"")
    state["tensors"]["matrix"] += 1
    assert torch.equal(state["tensors"]["matrix"], STATE["tensors"]["matrix"] + 1)


def test_tensors_that_share_memory_or_lie_crosswise_are_written(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    state = {
        "all": base,
        "row": base[1],
        "turned": base.T,
        "wide": base[:1].expand(2, 4),
    }
    write_state(tmp_path / "a", state)
    assert same(read_state(tmp_path / "a"), state)


def test_tensors_in_training_are_written(tmp_path):
    write_state(tmp_path / "a", {"weight": torch.nn.Parameter(torch.ones(3))})
    assert same(read_state(tmp_path / "a"), {"weight": torch.ones(3)})


def test_any_damage_is_found(tmp_path):
    """One bit of each of 300 bytes, among them all of the header's first 60."""
    path = tmp_path / "a"
    write_state(path, STATE)
    good = path.read_bytes()
    places = [*range(60), *random.Random(0).sample(range(60, len(good)), 240)]
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        try:
            state = read_state(path)
        except ValueError:
            continue
        assert same(state, STATE), place


# Refusal


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", 1j, torch.Generator()])
def test_refuses_what_is_no_data_and_writes_nothing(tmp_path, value):
    with pytest.raises(ValueError, match="one/0/two must be a tensor, number or text"):
        write_state(tmp_path / "a", {"one": [{"two": value}]})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_refuses_a_file_cut_short(tmp_path, share):
    path = tmp_path / "a"
    write_state(path, STATE)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        read_state(path)


def test_refuses_other_tensors_under_the_same_names(tmp_path):
    """All is in order but the hash: someone has changed a number."""
    path = tmp_path / "a"
    write_state(path, {"weight": torch.ones(3)})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({"weight": torch.tensor([1.0, 1, 2])}, path, metadata)
    with pytest.raises(ValueError, match="must hold what the hash in it says"):
        read_state(path)


def test_refuses_a_file_of_something_else(tmp_path):
    save_file({"weight": torch.ones(3)}, tmp_path / "a")
    with pytest.raises(ValueError, match="hash"):
        read_state(tmp_path / "a")
    (tmp_path / "a").write_bytes(struct.pack("<Q", 2) + b"[]")
    with pytest.raises(ValueError, match="whole safetensors"):
        read_state(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "b")


def test_refuses_names_that_are_not_unique_or_no_names(tmp_path):
    two = {"a": {0: torch.ones(1), "0": torch.zeros(1)}}
    with pytest.raises(ValueError, match="a/0 must be the name of one tensor"):
        write_state(tmp_path / "a", two)
    with pytest.raises(ValueError, match=r"a must have texts or integers .*\(1, 2\)"):
        write_state(tmp_path / "a", {"a": {(1, 2): 3}})

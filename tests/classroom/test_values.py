import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from llmcourse.classroom.values import copy_into, decode, encode

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
plain = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.tuples(st.integers(), st.integers()), inner)
        | st.frozensets(st.integers())
    ),
    max_leaves=12,
)


def dump(value: object) -> str:
    return json.dumps(encode(value))


def load(line: str) -> Any:
    return decode(json.loads(line))


@given(plain)
def test_plain_values_come_back_as_they_are(value: object) -> None:
    back = load(dump(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float64]
)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (4, 0, 2)])
def test_tensors_come_back_bit_by_bit(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    tensor = (torch.randn(shape) * 3).to(dtype)
    back = load(dump([tensor.T if tensor.dim() == 2 else tensor]))[0]
    assert back.dtype == dtype
    assert torch.equal(back, tensor.T if tensor.dim() == 2 else tensor)


def test_infinite_and_undefined_numbers_come_back() -> None:
    back = load(dump([float("inf"), torch.tensor([float("nan"), -float("inf")])]))
    assert back[0] == float("inf")
    assert back[1].isnan().tolist() == [True, False]


def test_a_generator_goes_on_where_it_was() -> None:
    generator = torch.Generator().manual_seed(7)
    back = load(dump(generator))
    assert torch.equal(
        torch.rand(3, generator=back), torch.rand(3, generator=generator)
    )


class AlwaysEqual:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Number(int):
    pass


@pytest.mark.parametrize("value", [AlwaysEqual(), [Number(3)], {"a": object()}, print])
def test_objects_do_not_cross(value: object) -> None:
    with pytest.raises(TypeError, match="wanted plain numbers"):
        dump(value)


@pytest.mark.parametrize(
    "line",
    [
        '{"pickle": "abc"}',
        '{"tensor": ["float32", [1000000000000], ""]}',
        '{"tensor": ["float32", [3], "AAAA"]}',
        '{"tensor": ["object", [1], "AAAA"]}',
        '{"function": 3}',
        '{"a": 1, "b": 2}',
    ],
)
def test_what_is_no_value_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a value"):
        load(line)


def test_changes_in_place_are_seen() -> None:
    tensor, inner = torch.zeros(2), [1]
    old = {"ids": [1, 2, 3], "weights": tensor, "nested": (inner,), "gone": 1}
    new = {"ids": [4], "weights": torch.ones(2), "nested": ([1, 5],), "added": 2}
    copy_into(old, new)
    assert old["ids"] == [4]
    assert tensor.tolist() == [1, 1]
    assert inner == [1, 5]
    assert "gone" not in old
    assert old["added"] == 2


def test_what_a_student_did_not_change_stays_as_it_is() -> None:
    assert decode(encode(np.array(3.0))).shape == ()
    fixed = np.broadcast_to(np.array([1.0]), (3,))  # cannot be written to
    weight, counts = nn.Parameter(torch.ones(2)), Counter("aab")
    old = {"fixed": fixed, "weights": [weight], "counts": counts}
    copy_into(old, {"fixed": fixed.copy(), "weights": [torch.ones(2)], "counts": {}})
    assert old["weights"][0] is weight
    assert old["counts"] is counts
    assert counts == {}

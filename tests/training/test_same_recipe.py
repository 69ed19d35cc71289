"""Recipes that differ are told apart, in few words."""

import pytest

from llmcourse.training.checkpoints import check_same_recipe


def test_equal_recipes_pass():
    before = {"config": {"a": 1, "b": [2, 3]}, "d": 4}
    check_same_recipe("'here' is another's", before, {"d": 4, **before})
    check_same_recipe("'here' is another's", {}, {})


def test_of_many_differences_three_are_told():
    before = {"config": {"a": 1, "b": 2, "c": 3}, "d": 4, "e": 5, "same": 6}
    with pytest.raises(ValueError, match="'here' is another's: config.b must") as odd:
        check_same_recipe(
            "'here' is another's", before, {"config": {"a": 1}, "f": 7, "same": 6}
        )
    assert str(odd.value).endswith(
        "another's: config.b must be 2, got None; config.c must be 3, got None; "
        "d must be 4, got None; 2 more differ"
    )


@pytest.mark.parametrize("more", [{"before": None}, {"now": None}])
def test_what_is_missing_is_not_what_is_none(more):
    recipes = {"before": {"n": 8}, "now": {"n": 8}}
    for name in more:
        recipes[name] |= {"seed": None}
    with pytest.raises(ValueError, match="seed must be None, got None"):
        check_same_recipe("pairs of another", recipes["before"], recipes["now"])


def test_of_one_it_says_which():
    with pytest.raises(ValueError, match="^pairs of another: seed must be 0, got 1$"):
        check_same_recipe("pairs of another", {"n": 8, "seed": 0}, {"n": 8, "seed": 1})

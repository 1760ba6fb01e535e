"""The published questions about a table, of hand-made annotations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets.billiards.tiny_tables import COLORS, ball
from tnet_keras.datasets import BILLIARD_LABELS, billiard_label


@pytest.mark.parametrize(
    "balls, expected",
    [
        # max of left and right, rightmost, sum modulo 10, min or max by the leftmost's colour
        ([ball(9, 2, "red"), ball(1, 7, "blue"), ball(5, 9, "red"), ball(4, 1)], (6, 1, 9, 0)),
        ([ball(9, 2, "blue"), ball(1, 1, "orange"), ball(5, 9)], (1, 1, 2, 8)),
        ([ball(-3, 9, "green"), ball(-1, 9)], (8, 8, 8, 8)),
        ([ball(0.5, 4, "purple")], (3, 3, 4, 3)),
        ([ball(2, 5, "yellow"), ball(2, 6, "green")], (4, 4, 1, 5)),  # Of two the first.
    ],
)
def test_labels_of_hand_made_tables(balls, expected):
    assert tuple(billiard_label(balls, label) for label in BILLIARD_LABELS) == expected


@given(
    st.lists(
        st.tuples(st.integers(-500, 500), st.integers(1, 9), st.sampled_from(COLORS)),
        min_size=1, max_size=8, unique_by=lambda one: one[0],
    ),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_labels_do_not_depend_on_the_order_of_balls(drawn, random):
    balls = [ball(*one) for one in drawn]
    shuffled = random.sample(balls, len(balls))
    for label, classes in BILLIARD_LABELS.items():
        assert billiard_label(balls, label) == billiard_label(shuffled, label)
        assert 0 <= billiard_label(balls, label) < classes


def test_unknown_questions_and_colours_are_refused():
    with pytest.raises(ValueError, match=r"`label` must be one of .* Received: label='median'"):
        billiard_label([ball(1, 1)], "median")
    with pytest.raises(ValueError, match=r"`color` must be one of .* Received: color='pink'"):
        billiard_label([ball(1, 1, "pink")], "min_or_max_by_color")
    assert billiard_label([ball(1, 1, "pink")], "max_left_right") == 0

"""What is asked about a table: the published label functions, of a table's annotation alone.

An annotation is a list of dicts, one per ball, with `position` (its first number says how far right
the ball lies), `number` (1-9) and `color` (a name).
"""

#: The published questions and their numbers of classes.
BILLIARD_LABELS = {
    "max_left_right": 9,
    "rightmost_number": 9,
    "sum_modulo_10": 10,
    "min_or_max_by_color": 9,
}
_COOL, _WARM = ("green", "blue", "purple"), ("yellow", "red", "orange")


def billiard_label(balls, label):
    """Answers one of the published questions about a table.

    Args:
        balls: annotation, a list of dicts with `position`, `number` and `color`; not empty.
        label: "max_left_right", "rightmost_number", "sum_modulo_10" or "min_or_max_by_color".

    Returns:
        int in `[0, BILLIARD_LABELS[label])`.

    Raises:
        ValueError: for another label, or another colour than the six where the colour counts.

    Example:
        balls = [
            {"position": [12.0, 80.0], "number": 3, "color": "red"},
            {"position": [96.0, 20.0], "number": 7, "color": "blue"},
        ]
        assert billiard_label(balls, "max_left_right") == 7 - 1
    """
    check_label(label)
    functions = {
        "max_left_right": max_left_right,
        "rightmost_number": rightmost_number,
        "sum_modulo_10": sum_modulo_10,
        "min_or_max_by_color": min_or_max_by_color,
    }
    return functions[label](balls)


def label_names(label):
    """What the labels of a question mean.

    Args:
        label: one of `BILLIARD_LABELS`.

    Returns:
        Tuple of str, one per label: the numbers "1" to "9", or last digits from "0" on.

    Raises:
        ValueError: for another label.
    """
    check_label(label)
    first = 0 if label == "sum_modulo_10" else 1
    return tuple(str(first + number) for number in range(BILLIARD_LABELS[label]))


def outermost(balls):
    """The leftmost and the rightmost ball; of several equally far out the first.

    Args:
        balls: annotation, not empty.

    Returns:
        Tuple of two of its dicts.
    """

    def place(ball):
        return ball["position"][0]

    return min(balls, key=place), max(balls, key=place)


def max_left_right(balls):
    """The larger number of the leftmost and the rightmost ball of `balls`, less 1: 0-8."""
    return max(ball["number"] for ball in outermost(balls)) - 1


def rightmost_number(balls):
    """The number of the rightmost ball of `balls`, less 1: 0-8."""
    return outermost(balls)[1]["number"] - 1


def sum_modulo_10(balls):
    """The last digit of the sum of all numbers of `balls`: 0-9."""
    return sum(ball["number"] for ball in balls) % 10


def min_or_max_by_color(balls):
    """The smallest number of `balls` if the leftmost is of a cool colour, else the largest.

    Less 1, so 0-8. Green, blue and purple are cool; yellow, red and orange are warm.
    """
    color = outermost(balls)[0]["color"]
    if color not in _COOL + _WARM:
        raise ValueError(f"`color` must be one of {_COOL + _WARM}. Received: color={color!r}")
    return (min if color in _COOL else max)(ball["number"] for ball in balls) - 1


def check_label(label):
    """Raises ValueError unless `label` is one of `BILLIARD_LABELS`."""
    if label not in BILLIARD_LABELS:
        raise ValueError(
            f"`label` must be one of {tuple(BILLIARD_LABELS)}. Received: label={label!r}"
        )

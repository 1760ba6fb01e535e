"""Which signs an image shows: the Swedish set's `annotations.txt`, and the published labels.

One line per image, `file:` and then records separated by `;`. A record is `visibility, x_max,
y_max, x_min, y_min, type, name`, or begins with MISC_SIGNS: signs that nobody listed.
"""

import dataclasses
import math
import os
import re

#: The classes in the order of their labels; EMPTY is an image without listed signs.
TRAFFIC_SIGN_CLASSES = ("EMPTY", "50_SIGN", "70_SIGN", "80_SIGN")
#: From the best to the worst.
VISIBILITIES = ("VISIBLE", "BLURRED", "SIDE_ROAD", "OCCLUDED")
#: Stands in the place of the visibility of a sign that nobody listed.
MISC_SIGNS = "MISC_SIGNS"
RULES = ("top_k", "ats")

_FIELDS = ("visibility", "x_max", "y_max", "x_min", "y_min", "type", "name")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclasses.dataclass(frozen=True)
class TrafficSign:
    """One sign in an image: one record of `annotations.txt`, fields in its order.

    Args:
        visibility: one of `VISIBILITIES`; or `MISC_SIGNS`, of which a file keeps nothing else.
        x_max: float, right edge in pixels.
        y_max: float, lower edge in pixels.
        x_min: float, left edge in pixels.
        y_min: float, upper edge in pixels.
        type: str, group of signs, such as "PROHIBITORY".
        name: str, such as "50_SIGN".
    """

    visibility: str
    x_max: float
    y_max: float
    x_min: float
    y_min: float
    type: str
    name: str

    @property
    def box(self):
        """Tuple (y0, x0, y1, x1) in pixels, in order even where a file swaps corners."""
        (y0, y1), (x0, x1) = sorted((self.y_min, self.y_max)), sorted((self.x_min, self.x_max))
        return y0, x0, y1, x1

    @property
    def area(self):
        """float, square pixels of the box."""
        y0, x0, y1, x1 = self.box
        return (y1 - y0) * (x1 - x0)


def labelled_sign(signs, rule="top_k"):
    """The speed limit that an image is labelled by.

    "top_k" (Cordonnier et al., CVPR 2021): the first visible 50, 70 or 80 in the order of the file.
    "ats" (Katharopoulos and Fleuret, ICML 2019): the 50, 70 or 80 that comes first by visibility,
    then by area, if it is visible. They differ where visible limits of different value share an
    image.

    Args:
        signs: list of `TrafficSign`, in the order of the file; those of `MISC_SIGNS` do not count.
        rule: "top_k" or "ats".

    Returns:
        `TrafficSign`, or None if the rule finds none.

    Raises:
        ValueError: for another rule.
    """
    return next(iter(visible_limits(signs, rule)), None)


def visible_limits(signs, rule="top_k"):
    """The visible speed limits of an image, the one that it is labelled by first.

    Args:
        signs: list of `TrafficSign`, in the order of the file; those of `MISC_SIGNS` do not count.
        rule: "top_k" or "ats", see `labelled_sign`: in the order of the file, or by falling area.

    Returns:
        List of `TrafficSign`.

    Raises:
        ValueError: for another rule.
    """
    check_rule(rule)
    # What is not visible cannot decide by either rule: "ats" puts it behind all that is.
    limits = [
        sign
        for sign in signs
        if sign.visibility == "VISIBLE" and sign.name in TRAFFIC_SIGN_CLASSES[1:]
    ]
    return sorted(limits, key=lambda sign: -sign.area) if rule == "ats" else limits


def traffic_sign_label(signs, rule="top_k"):
    """The published label of an image.

    Args:
        signs: list of `TrafficSign`, in the order of the file; those of `MISC_SIGNS` do not count.
        rule: "top_k" or "ats", which sign decides; see `labelled_sign`.

    Returns:
        int, position in `TRAFFIC_SIGN_CLASSES` (0 if no sign is listed); None if the rule drops
        the image, which shows signs but no visible 50, 70 or 80 that decides.

    Raises:
        ValueError: for another rule.

    Example:
        from tnet_keras.datasets.traffic_signs import TrafficSign

        sign = TrafficSign("VISIBLE", 730.0, 410.0, 690.0, 370.0, "PROHIBITORY", "70_SIGN")
        assert traffic_sign_label([sign]) == 2
        assert traffic_sign_label([]) == 0
    """
    check_rule(rule)
    if all(sign.visibility == MISC_SIGNS for sign in signs):
        return 0
    sign = labelled_sign(signs, rule)
    return None if sign is None else TRAFFIC_SIGN_CLASSES.index(sign.name)


def format_line(file, signs):
    """One line of `annotations.txt`, without its end; `parse_line` undoes it.

    Args:
        file: str, name of the image.
        signs: list of `TrafficSign`.

    Returns:
        str.
    """

    def record(sign):
        if sign.visibility == MISC_SIGNS:
            return MISC_SIGNS
        return ", ".join(str(getattr(sign, field)) for field in _FIELDS)

    return f"{file}:" + "".join(record(sign) + ";" for sign in signs)


def parse_line(line):
    """Reads one line of `annotations.txt`.

    Args:
        line: str, with or without its end.

    Returns:
        Tuple of str, the name of the image, and a list of `TrafficSign`, in the order of the line,
        without those that nobody listed.

    Raises:
        ValueError: if the line is broken; says what is wrong, not where.
    """
    file, colon, records = line.strip().partition(":")
    file = file.strip()
    if not colon:
        raise ValueError(f"a line must be `file:records`, here it is {_short(line)}")
    if not file or file in (".", "..") or re.search(r"[/\\\0]", file):
        raise ValueError(f"a file must be a plain name, here it is {_short(file)}")
    signs = []
    for record in map(str.strip, records.split(";")):
        if record and not record.startswith(MISC_SIGNS):
            signs.append(_parse_record(record))
    return file, signs


def read_annotations(path):
    """Reads an `annotations.txt`.

    Args:
        path: str or path-like, the file.

    Returns:
        Dict from the name of an image to its list of `TrafficSign`, in the order of the file.
        Empty lines are skipped; signs of `MISC_SIGNS` are left out.

    Raises:
        ValueError: if the file cannot be read, or a line is broken or lists an image again; names
            the file, the line and what is wrong.
    """
    path, found = os.fspath(path), {}
    try:
        # Junk need not be UTF-8.
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as stream:
            lines = stream.read().split("\n")
    except OSError as error:
        raise ValueError(
            f"The annotations must be readable ({error.strerror}). Received: {path!r}"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            file, signs = parse_line(line)
            if file in found:
                raise ValueError(f"an image must be listed once, here again {_short(file)}")
        except ValueError as error:
            raise ValueError(
                f"Every line of the annotations must be whole: {error}. "
                f"Received: line {number} of {path!r}"
            ) from error
        found[file] = signs
    return found


def check_rule(rule):
    """Raises ValueError unless `rule` is one of `RULES`."""
    if rule not in RULES:
        raise ValueError(f"`rule` must be one of {RULES}. Received: rule={rule!r}")


def _parse_record(record):
    fields = [field.strip() for field in record.split(",")]
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"a record must have {len(_FIELDS)} fields ({', '.join(_FIELDS)}), here "
            f"{len(fields)} in {_short(record)}"
        )
    visibility, *corners, kind, name = fields
    if visibility not in VISIBILITIES:
        raise ValueError(
            f"a visibility must be one of {VISIBILITIES}, here it is {_short(visibility)}"
        )
    if not kind or not name:
        raise ValueError(f"a sign must have a type and a name, here {_short(record)}")
    return TrafficSign(visibility, *map(_parse_number, corners, _FIELDS[1:5]), kind, name)


def _parse_number(text, field):
    # The longest beginning that is a number: what trimming from the right arrives at.
    match = _NUMBER.match(text)
    value = float(match[0]) if match else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{field} must begin with a number, here it is {_short(text)}")
    return value


def _short(text):
    return repr(text if len(text) <= 80 else text[:77] + "...")

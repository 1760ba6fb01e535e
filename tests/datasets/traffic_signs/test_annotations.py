"""The grammar of `annotations.txt` and the two published label rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets.traffic_signs.tiny_scenes import sign
from tnet_keras.datasets.traffic_signs import (
    TRAFFIC_SIGN_CLASSES,
    TrafficSign,
    labelled_sign,
    read_annotations,
    traffic_sign_label,
)
from tnet_keras.datasets.traffic_signs.annotations import (
    MISC_SIGNS,
    VISIBILITIES,
    format_line,
    parse_line,
)


def test_a_line_is_read_as_published():
    line = (
        "image7.jpg: VISIBLE, 730.5, 410, 690.25, 370.0, PROHIBITORY, 70_SIGN;"
        "MISC_SIGNS;SIDE_ROAD,40.,30.,20.,10.,WARNING,BEND ; MISC_SIGNS;\r\n"
    )
    file, signs = parse_line(line)
    assert file == "image7.jpg"
    assert signs == [
        TrafficSign("VISIBLE", 730.5, 410.0, 690.25, 370.0, "PROHIBITORY", "70_SIGN"),
        TrafficSign("SIDE_ROAD", 40.0, 30.0, 20.0, 10.0, "WARNING", "BEND"),
    ]
    assert signs[0].box == (370.0, 690.25, 410.0, 730.5)
    assert signs[1].area == 400.0
    assert parse_line("a.jpg:") == ("a.jpg", []) == parse_line("a.jpg: MISC_SIGNS;\n")


@pytest.mark.parametrize(
    "text, value",
    [("12.5l", 12.5), ("12.5.5", 12.5), ("7 px", 7.0), ("-3e", -3.0), ("1e2x", 100.0),
     (".5", 0.5), ("9.", 9.0), ("1_0", 1.0)],
)  # fmt: skip
def test_junk_behind_a_number_is_trimmed(text, value):
    _, (read,) = parse_line(f"a.jpg:VISIBLE, {text}, 2, 3, 4, T, N")
    assert read.x_max == value


names = st.text(st.characters(codec="ascii", exclude_characters=":;,/\\\0"), min_size=1).filter(
    lambda text: text == text.strip() and text not in (".", "..") and text.isprintable()
)
numbers = st.floats(-1e6, 1e6)
signs_of_files = st.builds(
    TrafficSign, st.sampled_from(VISIBILITIES), numbers, numbers, numbers, numbers, names, names
)


@given(names, st.lists(st.one_of(signs_of_files, st.just(sign("X", MISC_SIGNS)))))
def test_what_is_written_is_read_again(file, signs):
    listed = [one for one in signs if one.visibility != MISC_SIGNS]
    assert parse_line(format_line(file, signs)) == (file, listed)


def test_labels_of_the_rules():
    assert TRAFFIC_SIGN_CLASSES == ("EMPTY", "50_SIGN", "70_SIGN", "80_SIGN")
    for rule in ("top_k", "ats"):
        for label, name in enumerate(TRAFFIC_SIGN_CLASSES[1:], start=1):
            for hidden in VISIBILITIES[1:]:
                both = [sign("GIVE_WAY"), sign("70_SIGN", hidden, side=50), sign(name)]
                assert traffic_sign_label(both, rule) == label
                assert labelled_sign(both, rule) is both[2]
                assert traffic_sign_label([sign(name, hidden)], rule) is None
        assert traffic_sign_label([], rule) == 0
        assert traffic_sign_label([sign("50_SIGN", MISC_SIGNS)], rule) == 0
        assert labelled_sign([sign("50_SIGN", MISC_SIGNS)], rule) is None
        assert traffic_sign_label([sign("60_SIGN"), sign("GIVE_WAY")], rule) is None


def test_the_rules_differ_where_visible_limits_differ():
    signs = [sign("50_SIGN", side=10), sign("80_SIGN", side=20), sign("70_SIGN", "BLURRED", 30)]
    assert traffic_sign_label(signs, "top_k") == 1
    assert traffic_sign_label(signs, "ats") == 3
    swapped = TrafficSign("VISIBLE", 0.0, 9.0, 40.0, 49.0, "PROHIBITORY", "70_SIGN")
    assert swapped.box == (9.0, 0.0, 49.0, 40.0)
    assert traffic_sign_label([*signs, swapped], "ats") == 2


def test_an_unknown_rule():
    for function in (traffic_sign_label, labelled_sign):
        with pytest.raises(ValueError, match=r"`rule` must be one of .* Received: rule='first'"):
            function([], "first")


def test_files_are_read_in_order(tmp_path):
    path = tmp_path / "annotations.txt"
    # Bytes that are not UTF-8 behind a number are junk like any other.
    path.write_bytes(
        b"\xef\xbb\xbfb.jpg:\r\n\na.jpg:VISIBLE, 5\xe4, 5, 1, 1, PROHIBITORY, 50_SIGN;\n"
    )
    read = read_annotations(path)
    assert list(read) == ["b.jpg", "a.jpg"] and read["b.jpg"] == []
    assert read["a.jpg"][0].x_max == 5.0


@pytest.mark.parametrize(
    "line, message",
    [
        ("a.jpg", r"a line must be `file:records`, here it is 'a.jpg'"),
        (":MISC_SIGNS;", r"a file must be a plain name, here it is ''"),
        ("../a.jpg:", r"a file must be a plain name, here it is '../a.jpg'"),
        ("..:", r"a file must be a plain name, here it is '..'"),
        ("ok.jpg:", r"an image must be listed once, here again 'ok.jpg'"),
        ("a.jpg:VISIBLE, 1, 2, 3, 4, T;", r"a record must have 7 fields \(.*\), here 6 in 'VIS"),
        ("a.jpg:VISIBLE, 1, 2, 3, 4, T, N, M;", r"here 8 in 'VISIBLE, 1"),
        ("a.jpg:visible, 1, 2, 3, 4, T, N;", r"must be one of .*, here it is 'visible'"),
        ("a.jpg:BLURRED, 1, two, 3, 4, T, N;", r"y_max must begin with a number, .* 'two'"),
        ("a.jpg:BLURRED, 1, 2, nan, 4, T, N;", r"x_min must begin with a number, .* 'nan'"),
        ("a.jpg:BLURRED, 1, 2, 3, 1e999, T, N;", r"y_min must begin with a number, .* '1e999'"),
        ("a.jpg:BLURRED, , 2, 3, 4, T, N;", r"x_max must begin with a number, here it is ''"),
        ("a.jpg:BLURRED, 1, 2, 3, 4, , N;", r"a sign must have a type and a name"),
        ("x" * 999, r"here it is 'x{77}\.\.\.'"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "annotations.txt"
    path.write_text(f"ok.jpg:\n\n{line}\n")
    where = r". Received: line 3 of '.*annotations.txt'"
    with pytest.raises(ValueError, match=message + ".*" + where) as error:
        read_annotations(path)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"must be readable \(No such file.*\). Received: '.*'"):
        read_annotations(tmp_path / "annotations.txt")

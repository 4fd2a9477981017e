"""Labels in every spelling that scanners and MES use: one canonical form, one board name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisir_edge.labels import GS, board_name, canonical, field_of, is_name, shown

ISO = "[)>\x1e06\x1d1P4711-B\x1dSX987\x1dQ12\x1e\x04"
GS1 = "010950600013435210LOT7\x1d21ABC-1"
SPELLINGS = {
    ISO: [ISO, "[)>␞06␝1P4711-B␝SX987␝Q12␞␄", "[)><RS>06<GS>1P4711-B<GS>SX987<GS>Q12<RS><EOT>"],
    GS1: [
        GS1, "(01)09506000134352(10)LOT7(21)ABC-1", "]d2" + GS1, "]C1" + GS1, "\x1d" + GS1,
        "0109506000134352\x1d10LOT7\x1d21ABC-1", "010950600013435210LOT7␝21ABC-1", "010950600013435210LOT7<GS>21ABC-1",
    ],
    "PCB/A12": ["PCB/A12"],
    "(12)ABC": ["(12)ABC"],  # a date has six digits: no GS1
    "(1)": ["(1)"],
}  # fmt: skip
PAIRS = [(form, text) for form, texts in SPELLINGS.items() for text in texts]


@pytest.mark.parametrize(("form", "text"), PAIRS)
def test_every_spelling_has_one_form(form, text):
    assert canonical(text) == form
    assert canonical(form) == form


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        (ISO, "S", "X987"), (ISO, "1P", "4711-B"), (ISO, "Q", "12"), (ISO, "T", None), (GS1, "21", "ABC-1"),
        (GS1, "01", "09506000134352"), (GS1, "10", "LOT7"), (GS1, "17", None), ("SX987", "S", None),
        ("(410)1234567890123(21)X", "410", "1234567890123"), ("(3103)000750(21)X", "3103", "000750"),
        ("[)>\x1e05\x1d010950600013435221ABC\x1e\x04", "21", "ABC"), ("[)>\x1e06\x1dSA\x1dSB\x1e\x04", "S", None),
    ],
)  # fmt: skip
def test_a_field_names_the_board(text, field, value):
    assert field_of(text, field) == value
    assert board_name(text, field) == (canonical(text) if value is None else value)


@pytest.mark.parametrize(("form", "text"), PAIRS)
def test_an_announced_name_equals_its_label_in_every_spelling(form, text):
    for field in ("", "S", "21"):
        assert board_name(text, field) == board_name(form, field)


@given(st.text(st.sampled_from("01()[>29AS\x1d\x1e\x04␝<GR>]d"), max_size=30))
def test_the_form_is_a_fixed_point_and_never_raises(text):
    once = canonical(text)
    assert canonical(once) == once
    field_of(text, "S")


def test_control_characters_are_shown_as_json_has_them():
    import json

    assert shown(ISO) == json.dumps(ISO)[1:-1]
    assert is_name(ISO) and is_name("Straße 7") and not is_name("a\nb") and not is_name("\x00")
    assert GS in ISO


@pytest.mark.parametrize("serial", ["2112345", "2100017", "0109506000134353X", "SX987", "21ABC"])
def test_a_serial_that_begins_like_an_identifier_stays_whole(serial):
    """The name that a label gave comes back from the MES as it is."""
    assert board_name(serial, "21") == serial
    assert board_name(board_name(serial, "21"), "21") == serial


def test_a_symbol_that_says_gs1_is_taken_at_its_word():
    assert field_of("21ABC", "21") is None
    assert field_of("21ABC", "21", gs1=True) == "ABC"
    assert board_name("(21)ABC", "21") == "ABC" == board_name("21ABC", "21", gs1=True)
    assert board_name("0109506000134352212112345", "21") == "2112345" == board_name("2112345", "21")

r"""Texts of labels in one canonical form: plain text with its control characters, whatever way they were spelled.

Labels on boards hold several fields: ISO/IEC 15434 messages (``[)>`` RS ``06`` GS fields RS EOT; data identifiers of
ANSI MH10.8.2) and GS1 element strings (application identifiers; GS1 General Specifications, chapter 3 and 7.8).
Scanners and MES spell them in several ways: with the control characters themselves, with control pictures (``␝``), in
words (``<GS>``), or as brackets (``(01)...(21)...``). The canonical form has the characters themselves, GS only where
GS1 needs it, and nothing before the first field. In JSON and in logs they stand as ``\\u001d``.
"""

from __future__ import annotations

import re

FS, GS, RS, US, EOT = "\x1c", "\x1d", "\x1e", "\x1f", "\x04"
SEPARATORS = {"FS": FS, "GS": GS, "RS": RS, "US": US, "EOT": EOT}
"""The control characters that labels may hold; names with any other are refused."""
WORDS = re.compile("<(FS|GS|RS|US|EOT)>")
PICTURES = {0x2400 + ord(character): character for character in SEPARATORS.values()}
AIM_GS1 = ("]C1", "]d2", "]Q3", "]e0", "]J1")
"""Symbology identifiers (ISO/IEC 15424) that some scanners send before a GS1 element string."""
ISO_15434 = "[)>" + RS
BRACKETED = re.compile(r"(?:\(\d{2,4}\)[^()]+)+")
ELEMENT = re.compile(r"\((\d{2,4})\)([^()]+)")
PREDEFINED = {
    **dict.fromkeys(("01", "02", "03"), 14), "00": 18, "04": 16, **{str(n): 6 for n in range(11, 20)}, "20": 2,
    **{str(n): 8 for n in range(31, 37)}, "41": 14,
}  # fmt: skip
"""Characters behind the first two digits where GS1 defines their number: no GS follows them."""
IDENTIFIER_DIGITS = {
    **dict.fromkeys(("23", "24", "25", "40", "41", "42", "71"), 3),
    **dict.fromkeys((*(str(n) for n in range(31, 37)), "39", "43", "70", "72", "80", "81", "82"), 4),
    **dict.fromkeys(("00", "01", "02", "03", "04", "30", "37"), 2), **{str(n): 2 for n in range(10, 23)},
    **{str(n): 2 for n in range(90, 100)},
}  # fmt: skip
DATA_IDENTIFIER = re.compile(r"(\d{0,3}[A-Z])(.*)", re.DOTALL)
FIELD = re.compile(r"\d{2,4}|\d{0,3}[A-Z]")
"""What ``identity.field`` may be: a GS1 application identifier or an ANSI data identifier."""


def canonical(text: str) -> str:
    """The one form of a label's text; what is neither ISO 15434 nor GS1 keeps its characters."""
    plain = WORDS.sub(lambda found: SEPARATORS[found[1]], text).translate(PICTURES)
    while plain.startswith(AIM_GS1):
        plain = plain[3:]
    bracketed = _elements_in_brackets(plain)
    if bracketed is not None:
        return _joined(bracketed)
    stripped = plain.lstrip(GS) if plain.startswith(GS) else plain
    if GS in plain and not plain.startswith(ISO_15434):
        elements = _elements(stripped)
        if elements is not None:
            return _joined(elements)
    return plain


def is_name(text: str) -> bool:
    """Whether a text can name a board: printable but for the separators of labels."""
    return all(character.isprintable() or character in SEPARATORS.values() for character in text)


def shown(text: str) -> str:
    """A text for logs and terminals: control characters as JSON escapes them."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def field_of(text: str, field: str, gs1: bool = False) -> str | None:
    """The value of a label's field by its data or application identifier; None where it is not there just once.

    ``gs1``: the symbol itself says that its text is a GS1 element string. A text that does not show it (by GS,
    brackets, a symbology identifier, or a GTIN or SSCC with its check digit in front) is not taken for one: a serial
    number may begin with 21.
    """
    plain = canonical(text)
    if plain.startswith(ISO_15434):
        found = _iso_15434(plain)
    else:
        found = (_elements(plain) or []) if gs1 or _shows_gs1(text, plain) else []
    values = {value for identifier, value in found if identifier == field}
    return values.pop() if len(values) == 1 else None


def board_name(text: str, field: str = "", gs1: bool = False) -> str:
    """The name that a label or an announcement gives a board: its field where it has one, else the canonical text."""
    value = field_of(text, field, gs1) if field else None
    return canonical(text) if value is None else value


def _shows_gs1(text: str, plain: str) -> bool:
    if GS in plain or text.startswith(AIM_GS1) or text.startswith("("):
        return True
    length = {"00": 18, "01": 14, "02": 14}.get(plain[:2], 0)
    number = plain[2 : 2 + length]
    return bool(length) and len(number) == length and number.isascii() and number.isdigit() and _checks(number)


def _checks(number: str) -> bool:
    """Whether the last digit is GS1's check digit: weights 3 and 1 from the right, modulo 10."""
    weighted = sum(int(digit) * (1 if n % 2 else 3) for n, digit in enumerate(reversed(number[:-1])))
    return (weighted + int(number[-1])) % 10 == 0


def _iso_15434(plain: str) -> list[tuple[str, str]]:
    """(identifier, value) of the fields of formats 05 (GS1) and 06 (ANSI)."""
    out: list[tuple[str, str]] = []
    for envelope in plain[len(ISO_15434) :].rstrip(EOT).split(RS):
        kind, _, rest = envelope.partition(GS)
        if kind == "05":
            out += _elements(rest) or []
        elif kind == "06":
            matches = [DATA_IDENTIFIER.fullmatch(part) for part in rest.split(GS)]
            out += [(match[1], match[2]) for match in matches if match]
    return out


def _elements(plain: str) -> list[tuple[str, str]] | None:
    """(identifier, value) of a GS1 element string; None for a text that is none."""
    out: list[tuple[str, str]] = []
    rest = plain
    while rest:
        prefix = rest[:2]
        digits = IDENTIFIER_DIGITS.get(prefix)
        if digits is None or not (rest[:digits].isascii() and rest[:digits].isdigit()) or len(rest) <= digits:
            return None
        identifier, rest = rest[:digits], rest[digits:]
        if prefix in PREDEFINED:
            length = PREDEFINED[prefix] - (digits - 2)
            value, rest = rest[:length], rest[length:].removeprefix(GS)
            if len(value) < length or not value.isdigit():
                return None
        else:
            value, _, rest = rest.partition(GS)
        if not value:
            return None
        out.append((identifier, value))
    return out or None


def _elements_in_brackets(text: str) -> list[tuple[str, str]] | None:
    """``(01)09506000134352(21)ABC`` as elements; None where an identifier or a length is not as GS1 has it."""
    if not BRACKETED.fullmatch(text):
        return None
    elements = [(found[1], found[2]) for found in ELEMENT.finditer(text)]
    return elements if _elements(_joined(elements)) == elements else None


def _joined(elements: list[tuple[str, str]]) -> str:
    out = ""
    for identifier, value in elements:
        out += identifier + value + ("" if identifier[:2] in PREDEFINED else GS)
    return out.removesuffix(GS)

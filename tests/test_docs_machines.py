"""The pages that a PLC's and a SCADA's programmer read have what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from hisir_edge.mes.opcua import values
from hisir_edge.mes.plc.handshake import Phase
from hisir_edge.mes.plc.registers import Code, Command, FromPlc, Outcome, Status, ToPlc

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"


def test_every_register_bit_and_code_stands_in_the_page_with_its_number():
    page = (REFERENCE / "plc.md").read_text()
    written, read = page.split("the PLC reads |")[0], page.split("the PLC reads |")[1]
    for address in FromPlc:
        if address is not FromPlc.END:
            assert re.search(rf"^\| {address.value}( to \d+)? \| {address.name} \|", written, re.MULTILINE), address
    for one in ToPlc:
        if one in (ToPlc.END, ToPlc.TOP, ToPlc.WIDTH, ToPlc.HEIGHT):
            continue
        assert re.search(rf"^\| {one.value}( to \d+|, \d+)? \| {one.name}\b", read, re.MULTILINE), one
    for bit in Status:
        assert f"{bit.bit_length() - 1} {bit.name}" in read, bit
    for code in Code:
        assert f"| {code.value} {code.name} |" in read, code
    assert all(f"{phase.value} {phase.name}" in read for phase in Phase)
    assert all(f"{outcome.value} {outcome.name}" in read or outcome is Outcome.NONE for outcome in Outcome)
    assert all(f"bit {bit.bit_length() - 1} {bit.name}" in written for bit in Command)


def test_every_variable_stands_in_the_page():
    page = (REFERENCE / "opcua.md").read_text()
    for one in (*values.OF_STATUS, values.ANSWERS, *values.OF_RESULT, values.CONTENT):
        assert one.path in page or f"`{one.path.rpartition('/')[2]}`" in page, one.path
    assert all(state in page for state in (*values.STATES, *values.OPERATIONAL))

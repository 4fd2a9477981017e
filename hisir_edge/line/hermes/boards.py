"""Boards of the machine before this one, under the names that the line knows them by."""

from __future__ import annotations

import structlog

from hisir_edge.config.tables import HermesTable
from hisir_edge.line.arrivals import Arrivals
from hisir_edge.line.hermes.link import HermesLink
from hisir_edge.line.hermes.protocol import Board
from hisir_edge.line.triggers import Identity

log = structlog.get_logger()


def link_from_settings(settings: HermesTable, line_name: str, arrivals: Arrivals) -> HermesLink:
    """The connection that announces boards to the line's ``arrivals``; nothing is opened yet."""

    def identity(board: Board) -> Identity:
        unit = {"TopBarcode": board.top_barcode, "BottomBarcode": board.bottom_barcode}.get(settings.unit, "")
        return Identity(unit or board.board_id, settings.products.get(board.product_type, board.product_type))

    def arrived(board: Board) -> None:
        log.info("board arrived", board_id=board.board_id, work_order=board.work_order, product=board.product_type)
        arrivals.arrived(identity(board))

    def lost(board: Board, reason: str) -> None:
        arrivals.report(identity(board), reason)

    return HermesLink(settings, line_name, lambda: arrivals.board_may_come, arrived, lost)

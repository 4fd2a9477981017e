"""A fleet's figures for the operator's page, from the views of PostgreSQL."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

from hisir_edge.errors import NoAnswer
from hisir_edge.fleet.address import connection_of
from hisir_edge.fleet.layout import SCHEMA

ANSWER_MS = 10_000
SETTINGS = {
    "connect_timeout": 3,
    "options": f"-c search_path={SCHEMA} -c timezone=UTC -c statement_timeout={ANSWER_MS} "
    "-c default_transaction_read_only=on",
}
MOST_DAYS, MOST_PLACES, MOST_BUNDLES = 366, 20, 40
DRIFT_SIGMAS = 1.0
"""A day whose mean is off by so many deviations of single boards is told."""
COUNTS = (
    "sum(boards)::bigint AS boards, sum(judged)::bigint AS judged, sum(reviewed)::bigint AS reviewed, "
    "sum(waiting)::bigint AS waiting, sum(confirmed)::bigint AS confirmed, sum(false_calls)::bigint AS false_calls, "
    "sum(escapes)::bigint AS escapes, sum(errors)::bigint AS errors, sum(passed)::bigint AS passed"
)
LINES = f"""
SELECT l.plant, l.line, extract(epoch FROM l.heard_at)::float8 AS heard_at,
  CASE WHEN l.told_at < now() - interval '60 s' THEN 'its collector has said nothing since '
    || to_char(l.told_at, 'YYYY-MM-DD HH24:MI') || ' UTC' ELSE l.wrong END AS wrong, c.*
FROM line l LEFT JOIN (
  SELECT line AS of_line, {COUNTS} FROM yield_by_day WHERE day >= %s GROUP BY line
) c ON c.of_line = l.line ORDER BY l.plant, l.line"""  # noqa: S608
BUNDLES = f"""
SELECT product, bundle, count(DISTINCT line)::bigint AS lines, {COUNTS} FROM yield_by_day WHERE day >= %s
GROUP BY product, bundle ORDER BY max(day) DESC, boards DESC LIMIT {MOST_BUNDLES}"""  # noqa: S608
PLACES = f"""
SELECT product, place, count(DISTINCT line)::bigint AS lines, sum(called)::bigint AS called,
  sum(false_calls)::bigint AS false_calls, sum(confirmed)::bigint AS confirmed
FROM calls_by_part WHERE day >= %s GROUP BY product, place ORDER BY called DESC, place LIMIT {MOST_PLACES}"""  # noqa: S608
DRIFT = """
SELECT DISTINCT ON (line, product) line, product, bundle, day, boards::bigint, score_sigmas, blur_sigmas,
  brightness_sigmas FROM drift_by_day WHERE day >= %s AND boards >= 8 ORDER BY line, product, day DESC"""


def fleet_figures(target: str, days: int) -> dict[str, Any]:
    """Lines, bundle revisions, places and drift of the last ``days``; NoAnswer where the database gives none.

    ``wrong``: by figure, why it is not known. InputError for an address that is none.
    Rates are None where nothing says them, as on the page of one line: see ``view.statistics``.
    """
    since = datetime.now(timezone.utc).date() - timedelta(days=min(max(days, 1), MOST_DAYS) - 1)
    found: dict[str, Any] = {"since": since.isoformat(), "wrong": {}}
    try:
        with psycopg.connect(**{**connection_of(target, "--fleet"), **SETTINGS}, row_factory=dict_row) as db:
            db.autocommit = True
            for name, query in (("lines", LINES), ("bundles", BUNDLES), ("places", PLACES), ("drift", DRIFT)):
                try:
                    found[name] = [_plain(row) for row in db.execute(query, (since,))]
                except psycopg.errors.QueryCanceled:  # the others are shown all the same
                    found[name], found["wrong"][name] = [], f"not known: it took longer than {ANSWER_MS // 1000} s"
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise NoAnswer(
            expected="the tables of a fleet", received="a database without them", fix="let hisir-edge fleet write there"
        ) from error
    except psycopg.Error as error:
        raise NoAnswer(
            expected="the fleet's database", received=" ".join(str(error).split())[:200],
            fix="is it up, and may this user read hisir_fleet there?",
        ) from error  # fmt: skip
    for row in (*found["lines"], *found["bundles"]):
        row.update(_rates(row))
    for row in found["drift"]:
        row["off"] = [
            name.removesuffix("_sigmas") for name in ("score_sigmas", "blur_sigmas", "brightness_sigmas")
            if row[name] is not None and abs(row[name]) >= DRIFT_SIGMAS
        ]  # fmt: skip
    return found


def _rates(row: dict[str, Any]) -> dict[str, Any]:
    if not row["judged"]:
        return {"first_pass_yield": None, "false_calls_per_board": None}
    looked_at = row["confirmed"] + row["false_calls"] > 0 or not row["waiting"]
    return {
        "first_pass_yield": (row["passed"] + row["escapes"]) / row["judged"],
        "false_calls_per_board": row["false_calls"] / row["reviewed"] if row["reviewed"] and looked_at else None,
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """As JSON takes it."""
    out = {}
    for name, value in row.items():
        plain = float(value) if isinstance(value, Decimal) else value
        if isinstance(plain, float) and not math.isfinite(plain):
            plain = None
        out[name] = plain.isoformat() if isinstance(plain, date) else plain
    return out

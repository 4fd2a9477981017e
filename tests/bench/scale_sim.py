"""1, 10, 100 and 1,000 lines, simulated from times that were measured on one machine: what is busy, what breaks first.

    python tests/bench/scale_sim.py [--minutes 20]

A discrete-event simulation (SimPy). Lines give a board each 9.6 s (3,000 a shift of 8 hours), ten lines a plant, plants
joined to the company by a link. Of each board a verdict goes to the collector (``hisir-edge fleet``) and its database,
and to a broker; where archives are copied, its picture over the link. Then: the database away for an hour, and a month
of boards inspected again in a night. Every figure of ``MEASURED`` was seen, with the command that showed it; what is
beyond one machine is extrapolated, and the pages that quote it say so.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

CYCLE_S, JITTER, LINES_A_PLANT, LINES_A_COLLECTOR = 9.6, 0.05, 10, 100
LINK_BYTES_S = 1e9 / 8 * 0.7
"""A link of 1 Gbit/s, seven tenths of it usable."""
MEASURED = {
    "verdict_bytes": 1_400,  # its JSON; tests/bench/fleet.py
    "picture_bytes": 3.4e6,  # a 12 Mpx board as JPEG; tests/bench/archive.py
    "decode_s": 62e-6,  # of a verdict in the collector: 74 us at 13,466 a second, less its row's; tests/bench/fleet.py
    "transaction_s": 1.37e-3,  # of PostgreSQL that flushes to its disk, whatever it holds; tests/bench/fleet.py
    "row_s": 11.8e-6,  # and for each board in it, with its defects; the same
    "question_s": 0.17e-3,  # what decisions are stored, asked for each line every 5 s; the same
    "row_bytes": 440,  # on its disk, with indices; tests/bench/fleet.py
    "broker_s": 1 / 999,  # a board into RabbitMQ as IPC-CFX, 60 on their way; tests/bench/cfx.py
    "inspect_core_s": 2 * 0.261,  # a 12 Mpx board on two cores with VNNI; tests/bench/against.py
    "inspect_avx2_core_s": 2 * 0.655,  # with AVX2 alone
}
BATCH_ROWS, BATCH_S, ATTEND_S, RETRY_S = 1000, 1.0, 5.0, 5.0
NIGHT_S, BOARDS_A_MONTH = 8 * 3600, 3 * 3000 * 30


@dataclass(slots=True)
class Station:
    """Something that serves one after the other, and how long it was busy."""

    env: simpy.Environment
    queue: simpy.Resource = field(init=False)
    busy_s: float = 0.0

    def __post_init__(self) -> None:
        self.queue = simpy.Resource(self.env, 1)

    def serve(self, seconds: float) -> Generator[Any, Any, None]:
        """Wait for one's turn, then take so long."""
        with self.queue.request() as turn:
            yield turn
            yield self.env.timeout(seconds)
            self.busy_s += seconds


@dataclass(slots=True)
class Company:
    """All stations; ``late_s``: from verdict to row, of each board."""

    env: simpy.Environment
    lines: int
    links: list[Station] = field(init=False)
    collectors: list[Station] = field(init=False)
    database: Station = field(init=False)
    broker: Station = field(init=False)
    late_s: list[float] = field(default_factory=list)
    waiting: dict[int, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def stations(count: int) -> list[Station]:
            return [Station(self.env) for _ in range(count)]

        self.links = stations(-(-self.lines // LINES_A_PLANT))
        self.collectors = stations(-(-self.lines // LINES_A_COLLECTOR))
        self.database, self.broker = stations(2)

    def line(self, number: int, pictures: bool, rng: random.Random) -> Generator[Any, Any, None]:
        """One line's boards, without end."""
        yield self.env.timeout(rng.uniform(0, CYCLE_S))
        while True:
            self.env.process(self.board(number))
            if pictures:
                link = self.links[number // LINES_A_PLANT]
                self.env.process(link.serve(MEASURED["picture_bytes"] / LINK_BYTES_S))
            yield self.env.timeout(max(rng.gauss(CYCLE_S, CYCLE_S * JITTER), 0.1))

    def attended(self, rng: random.Random) -> Generator[Any, Any, None]:
        """A line's decisions, asked for again and again."""
        yield self.env.timeout(rng.uniform(0, ATTEND_S))
        while True:
            self.env.process(self.database.serve(MEASURED["question_s"]))
            yield self.env.timeout(ATTEND_S)

    def board(self, number: int) -> Generator[Any, Any, None]:
        """A verdict, on its way to the broker and to the database."""
        given = self.env.now
        self.env.process(self.broker.serve(MEASURED["broker_s"]))
        yield from self.links[number // LINES_A_PLANT].serve(MEASURED["verdict_bytes"] / LINK_BYTES_S)
        yield from self.collectors[number // LINES_A_COLLECTOR].serve(MEASURED["decode_s"])
        mine = self.waiting.setdefault(number, [])
        mine.append(given)
        if len(mine) == 1:  # the first one: stored once a second has gone by, with those that came meanwhile
            yield self.env.timeout(BATCH_S)
            batch, self.waiting[number] = self.waiting[number][:BATCH_ROWS], self.waiting[number][BATCH_ROWS:]
            yield from self.database.serve(MEASURED["transaction_s"] + len(batch) * MEASURED["row_s"])
            self.late_s += [self.env.now - one for one in batch]


def steady(lines: int, minutes: float, pictures: bool) -> dict[str, float]:
    """Shares of the time that stations are busy, and how late rows are."""
    env = simpy.Environment()
    company, rng = Company(env, lines), random.Random(lines)
    for number in range(lines):
        env.process(company.line(number, pictures, rng))
        env.process(company.attended(rng))
    env.run(until=minutes * 60)
    whole = minutes * 60
    return {
        "link": max(one.busy_s for one in company.links) / whole,
        "collector": max(one.busy_s for one in company.collectors) / whole,
        "database": company.database.busy_s / whole, "broker": company.broker.busy_s / whole,
        "late_s": statistics.quantiles(company.late_s, n=100)[98] if len(company.late_s) > 100 else max(company.late_s),
    }  # fmt: skip


def caught_up_s(lines: int, away_s: float = 3600.0) -> float:
    """How long it takes until all boards of an outage are stored, while others go on coming."""
    env = simpy.Environment()
    company, rng = Company(env, lines), random.Random(lines)
    done: list[float] = []

    def backlog(number: int) -> Generator[Any, Any, None]:
        yield env.timeout(RETRY_S)  # at most: the database is tried so often
        left = round(away_s / CYCLE_S)
        while left:
            batch = min(left, BATCH_ROWS)
            yield from company.collectors[number // LINES_A_COLLECTOR].serve(batch * MEASURED["decode_s"])
            yield from company.database.serve(MEASURED["transaction_s"] + batch * MEASURED["row_s"])
            left -= batch
        done.append(env.now)

    for number in range(lines):
        env.process(company.line(number, False, rng))
        env.process(backlog(number))
    while len(done) < lines:
        env.step()
    return max(done)


def night(lines: int) -> dict[str, float]:
    """What a month of all lines in eight hours takes: cores, and a plant's link where archives are read over it."""
    boards = lines * BOARDS_A_MONTH
    return {
        "boards": boards,
        "cores": boards * MEASURED["inspect_core_s"] / NIGHT_S,
        "cores_avx2": boards * MEASURED["inspect_avx2_core_s"] / NIGHT_S,
        "gbit_s_a_plant": min(lines, LINES_A_PLANT) * BOARDS_A_MONTH * MEASURED["picture_bytes"] * 8 / NIGHT_S / 1e9,
        "terabytes": boards * MEASURED["picture_bytes"] / 1e12,
    }


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    asked = parser.parse_args()
    print(
        "| lines | link of a plant | with pictures | collector | database | broker | 99 % of rows after "
        "| an hour's outage |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for lines in (1, 10, 100, 1000):
        found, full = steady(lines, asked.minutes, False), steady(lines, asked.minutes, True)
        shares = " | ".join(f"{found[name]:.2%}" for name in ("collector", "database", "broker"))
        print(
            f"| {lines} | {found['link']:.3%} | {full['link']:.0%} | {shares} | {found['late_s']:.2f} s "
            f"| {caught_up_s(lines):.1f} s |"
        )
    print("\nbusy all of the time, and so broken, at so many lines:")
    for words, busy in (
        ("the database", (MEASURED["transaction_s"] + MEASURED["row_s"]) / CYCLE_S + MEASURED["question_s"] / ATTEND_S),
        ("the broker", MEASURED["broker_s"] / CYCLE_S),
        ("a link of 1 Gbit/s, with pictures", MEASURED["picture_bytes"] / LINK_BYTES_S / CYCLE_S),
    ):
        print(f"- {words}: {1 / busy:,.0f}")
    print(
        "\n| lines | boards a month | cores with VNNI | AVX2 alone | Gbit/s a plant | TB |\n|---|---|---|---|---|---|"
    )
    for lines in (1, 10, 100, 1000):
        one = night(lines)
        print(
            f"| {lines} | {one['boards']:,.0f} | {one['cores']:,.0f} | {one['cores_avx2']:,.0f} "
            f"| {one['gbit_s_a_plant']:.2f} | {one['terabytes']:,.1f} |"
        )
    hours = {name: 1e6 * MEASURED[name] / 3600 for name in ("inspect_core_s", "inspect_avx2_core_s")}
    print(
        f"\na million boards: {hours['inspect_core_s']:.0f} core hours with VNNI, "
        f"{hours['inspect_avx2_core_s']:.0f} with AVX2 alone"
    )


if __name__ == "__main__":
    main()

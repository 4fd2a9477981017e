"""The whole daemon for a while on camera frames, with faults at random; every trigger must have its verdict.

    python tests/soak/soak.py --minutes 10 --work build/soak [--rate-hz 25] [--seed 1]      (make soak SOAK_MINUTES=10)

The camera is viky.cti of the genicam wheel; a small network is trained on its own pictures first, so that frames are
inspected and not merely refused. Meanwhile, at random: the camera's process is killed or stopped, the daemon is killed
and started again, the configuration is reloaded, sound and broken, nonsense goes to the control socket, a subscriber
stops reading. Ends with a summary line and exit code 1 if a trigger has no verdict in the journal, one has two, a
verdict was published otherwise than it is journaled, or memory, threads or descriptors grew.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median

import cv2
import genicam
import psutil
import zmq

from hisir_edge.camera.process_host import GenicamCamera
from hisir_edge.config.sources import GenicamSource
from hisir_edge.engine.build import build_bundle
from hisir_edge.engine.options import BuildOptions
from hisir_edge.errors import HisirEdgeError
from hisir_edge.learn.data.run import RunSettings
from hisir_edge.learn.training.train import train
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.mes import subscribe
from hisir_edge.records import Frame
from hisir_edge.transport.control_client import ask

VIKY = Path(genicam.__file__).parent / "viky.cti"
SIZE = (256, 192)
PICTURES = 40
FAULTS = ("kill daemon", "kill camera", "stop camera", "reload", "broken reload", "nonsense", "deaf subscriber")
WARM_S = 10
LEAST_LIFE_S = 120
"""Of lives that are shorter nobody can say whether they grow or warm up: the daemon is killed when it is older."""
GROWTH_MB, GROWTH_THREADS, GROWTH_FDS = 24, 4, 8


def small_bundle(work: Path) -> Path:
    """Frames of the camera as good boards, a short training, a bundle; what is there is kept."""
    bundle = work / "bundle"
    if (bundle / "manifest.json").exists():
        return bundle
    good = work / "good"
    good.mkdir(parents=True, exist_ok=True)
    settings = GenicamSource(
        type="genicam", cti=str(VIKY), serial="0", pixel_format="RGBa8", width=SIZE[0], height=SIZE[1]
    )
    with GenicamCamera(settings) as camera:
        taken = 0
        while taken < PICTURES:
            item = camera.next(1.0)
            if isinstance(item, Frame) and item.frame_id % 3 == 0:
                cv2.imwrite(str(good / f"{taken:03d}.png"), cv2.cvtColor(item.rgb, cv2.COLOR_RGB2BGR))
                taken += 1
    train(
        RunSettings(
            data=str(good),
            backbone="rep",
            width=16,
            tile_px=128,
            overlap_px=32,
            scale=1.0,
            register="off",
            batch=8,
            steps=200,
            learning_rate=3e-3,
            seed=0,
        ),
        work / "run",
        workers=1,
    )
    build_bundle(
        work / "run",
        bundle,
        BuildOptions(least_planted_recall=0.0, precision="fp32", product="viky", false_calls_per_board=1.0),
    )
    return bundle


class Soak:
    """A daemon, its subscriber, and what was seen of it."""

    def __init__(self, work: Path, bundle: Path, rate_hz: float) -> None:
        self.work, self.endpoint, self.control = work, f"ipc://{work}/verdicts", f"ipc://{work}/control"
        self.config = work / "line.toml"
        self.text = (
            f'[line]\ndeadline_ms = 5000\n[bundle]\npath = "{bundle}"\n'
            f'[source]\ntype = "genicam"\ncti = "{VIKY}"\nserial = "0"\npixel_format = "RGBa8"\n'
            f"width = {SIZE[0]}\nheight = {SIZE[1]}\n"
            f"ring_slots = 64\nframe_rate_hz = {float(rate_hz)}\n"
            f'[control]\nendpoint = "{self.control}"\n[journal]\nfolder = "journal"\n'
            f'[publish]\nendpoint = "{self.endpoint}"\nwait_for_subscribers = 1\n'
        )
        self.config.write_text(self.text)
        shutil.rmtree(work / "journal", ignore_errors=True)
        self.bodies: dict[int, dict] = {}
        self.seen: Counter[int] = Counter()
        self.results: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.samples: list[list[tuple[float, int, int]]] = []
        self.over = False
        (work / "daemon.log").unlink(missing_ok=True)

    def start(self) -> None:
        """Start daemon and subscriber."""
        self.start_daemon()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def start_daemon(self) -> None:
        """One more life of it."""
        with (self.work / "daemon.log").open("ab") as log:
            command = [sys.executable, "-m", "hisir_edge", "run", "--config", str(self.config)]
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log)
        self.samples.append([])
        self.started_at, self.warm_at = time.monotonic(), None

    def _read(self) -> None:
        for verdict in subscribe(self.endpoint, stop=lambda: self.over):
            self.seen[verdict.seq] += 1
            self.bodies[verdict.seq] = verdict.body
            self.results[verdict.result] += 1
            if verdict.result == "ERROR":
                self.reasons[verdict.reason.split(":")[0][:40]] += 1

    def camera(self) -> psutil.Process | None:
        """The camera's process."""
        found = psutil.Process(self.daemon.pid).children()
        return found[0] if found else None

    def warm_up(self) -> None:
        """Reload once in each life, as soon as it inspects."""
        if self.warm_at is None and time.monotonic() > self.started_at + WARM_S:
            self.daemon.send_signal(signal.SIGHUP)
            self.warm_at = time.monotonic() + WARM_S  # type: ignore[assignment]

    def sample(self) -> None:
        """Memory, threads and descriptors of the daemon, from ``WARM_S`` after its first reload on.

        The first reload has two sets of engines loaded at once; the room for that is kept for the next one.
        """
        if self.warm_at is None or time.monotonic() < self.warm_at:
            return
        process = psutil.Process(self.daemon.pid)
        self.samples[-1].append((process.memory_info().rss / 1e6, process.num_threads(), process.num_fds()))

    def fault(self, kind: str, context: zmq.Context) -> None:
        """One of ``FAULTS``."""
        camera = self.camera()
        if kind == "kill daemon":
            self.config.write_text(self.text)
            self.daemon.kill()
            self.daemon.wait()
            self.start_daemon()
        elif kind == "kill camera" and camera is not None:
            camera.kill()
        elif kind == "stop camera" and camera is not None:
            camera.send_signal(signal.SIGSTOP)  # the daemon kills it after 5 s of silence
        elif kind == "reload":
            self.config.write_text(self.text + f"[output]\nbudget_mb = {random.randint(10, 99)}\n")
            self.daemon.send_signal(signal.SIGHUP)
        elif kind == "broken reload":
            self.config.write_text("broken [")
            self.daemon.send_signal(signal.SIGHUP)
        elif kind == "nonsense":
            talker = context.socket(zmq.DEALER)
            talker.setsockopt(zmq.LINGER, 0)
            talker.connect(self.control)
            talker.send(random.randbytes(random.randint(0, 3000)))
            talker.poll(1000)
            talker.close()
        elif kind == "deaf subscriber":
            deaf = context.socket(zmq.SUB)
            deaf.setsockopt(zmq.LINGER, 0)
            deaf.setsockopt(zmq.RCVHWM, 1)
            deaf.setsockopt(zmq.SUBSCRIBE, b"")
            deaf.connect(self.endpoint)
            threading.Event().wait(3)
            deaf.close()


def main() -> int:
    """Run and sum up; 1 if anything was not as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--work", type=Path, default=Path("build/soak"))
    parser.add_argument("--rate-hz", type=float, default=25)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    soak = Soak(work, small_bundle(work), options.rate_hz)
    soak.start()
    done: Counter[str] = Counter()
    context = zmq.Context()
    try:
        while not soak.seen and soak.daemon.poll() is None:
            threading.Event().wait(0.2)
        start = time.monotonic()
        end, next_fault = start + 60 * options.minutes, time.monotonic() + 10
        while time.monotonic() < end and soak.daemon.poll() is None:
            threading.Event().wait(1.0)
            soak.warm_up()
            soak.sample()
            if time.monotonic() > next_fault and end - time.monotonic() > 20:
                kind = random.choice(FAULTS)
                if kind == "kill daemon" and len(soak.samples[-1]) < LEAST_LIFE_S:
                    kind = "kill camera"
                soak.fault(kind, context)
                done[kind] += 1
                next_fault = time.monotonic() + random.uniform(4, 14)
        seconds = time.monotonic() - start
        status = ask(soak.control, {"do": "status"}, 20)
        ask(soak.control, {"do": "drain"}, 20)
        code = soak.daemon.wait(60)
    except (HisirEdgeError, subprocess.TimeoutExpired) as error:
        print(f"the daemon is gone or does not answer: {error}")
        return 1
    finally:
        if soak.daemon.poll() is None:
            soak.daemon.kill()
        soak.daemon.wait()
        threading.Event().wait(1)
        soak.over = True
        soak.reader.join()
        context.term()
    return summary(soak, seconds, code, status, done)


def summary(soak: Soak, seconds: float, code: int, status: dict, done: Counter[str]) -> int:
    """Print what was seen; 1 if it was not as promised."""
    _, entries, without = read_journal(soak.work / "journal")
    journaled = Counter(entry.seq for entry in entries)
    highest = max(journaled)
    unanswered = [seq for seq in range(1, highest + 1) if not journaled[seq]] + without
    twice = [seq for seq, count in soak.seen.items() if count > 1]
    other = [e.seq for e in entries if e.seq in soak.bodies and soak.bodies[e.seq] != json.loads(e.body)]
    longest = max(soak.samples, key=len)
    kept = longest[len(longest) // 5 :]
    first, last = kept[: max(len(kept) // 5, 1)], kept[-max(len(kept) // 5, 1) :]
    growth = [median(s[i] for s in last) - median(s[i] for s in first) for i in range(3)]
    judged = soak.results["PASS"] + soak.results["FAIL"]
    print(f"faults: {dict(done)}; errors: {dict(soak.reasons.most_common(8))}")
    print(
        f"soak: {seconds / 60:.1f} min, {highest} triggers ({highest / seconds:.1f} a second, "
        f"{judged / seconds:.1f} judged), "
        f"{len(entries)} verdicts {dict(soak.results)}, unanswered {len(unanswered)}, twice {len(twice)}, "
        f"published otherwise {len(other)}, not seen live {highest - len(soak.seen)}, exit {code}, "
        f"RSS {last[-1][0]:.0f} MB ({growth[0]:+.1f}), threads {last[-1][1]} ({growth[1]:+.0f}), "
        f"descriptors {last[-1][2]} ({growth[2]:+.0f}) in a life of {len(longest)} s, seq {status['seq']}"
    )
    grown = growth[0] > GROWTH_MB or growth[1] > GROWTH_THREADS or growth[2] > GROWTH_FDS
    return int(bool(unanswered or twice or other or code or grown or highest < status["seq"]))


if __name__ == "__main__":
    sys.exit(main())

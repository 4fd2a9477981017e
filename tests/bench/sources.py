"""The three ways to a camera side by side: frames a second, what was lost, CPU time a frame, how long the GIL is held.

    python tests/bench/sources.py genicam --cti TLSimu.cti --frames 5000
    python tests/bench/sources.py aravis viva --frames 5000 --rate 15

Aravis's and viva-genicam's own cameras send over loopback in a network namespace that this makes (GigE Vision: each
frame crosses the kernel in packets); the GenTL producer, TLSimu of the genicam 1.4.0 wheel, hands memory over, so that
its figures are of the library alone. Frames go the line's way: camera process, ring, frame. The GIL is measured by a
thread that wants to run each millisecond, in a process that fetches as the camera's does.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import namespace

from hisir_edge.camera.process_host import GenicamCamera
from hisir_edge.camera.processes import process_module
from hisir_edge.config.sources import AravisSource, GenicamSource, VivaSource
from hisir_edge.images.wire import WIRE_FORMATS, Unpacker
from hisir_edge.records import Frame

GIGE = Path(__file__).parents[1] / "gige"
WIDTH, HEIGHT = 4096, 3000
SENSOR = ((0x118, HEIGHT), (0x11C, WIDTH))
TABLES = {"genicam": GenicamSource, "aravis": AravisSource, "viva": VivaSource}
WARM_FRAMES, TICK_S = 10, 0.001
MONO_OF_TLSIMU = "SN_InterfaceA_0"


@contextlib.contextmanager
def producer(kind: str, rate_hz: float) -> Iterator[None]:
    """The camera that is fetched from, as a process of its own; none for a GenTL producer."""
    if kind == "genicam":
        yield
        return
    asked = json.dumps({"width": WIDTH, "height": HEIGHT, "fps": round(rate_hz)})
    command = {
        "aravis": ["/usr/bin/python3", str(GIGE / "fake_camera.py"), "127.0.0.1", "SN1"],
        "viva": [sys.executable, str(GIGE / "viva_camera.py"), asked],
    }[kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline().strip() == "running"
        for register, value in SENSOR if kind == "aravis" else ():
            process.stdin.write(f"{register:x} {value:x}\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == "written"
        try:
            yield
        finally:
            process.kill()


def settings(kind: str, cti: str, rate_hz: float) -> Any:
    """The [source] table."""
    size = {"type": kind, "pixel_format": "Mono8", "width": WIDTH, "height": HEIGHT}
    if kind == "genicam":
        return GenicamSource.model_validate({**size, "cti": cti, "serial": MONO_OF_TLSIMU})
    rate = {"frame_rate_hz": rate_hz} if kind == "aravis" else {}
    return TABLES[kind].model_validate({**size, **rate, "packet_bytes": 8900})


def through_the_line(kind: str, cti: str, frames: int, rate_hz: float) -> dict[str, Any]:
    """Frames taken by the line from the camera's process, and what that process took for them."""
    with producer(kind, rate_hz), GenicamCamera(settings(kind, cti, rate_hz)) as source:
        seen, lost = 0, list[str]()
        while seen < WARM_FRAMES:
            seen += isinstance(source.next(0.2), Frame)
        assert source.process is not None
        camera, start = psutil.Process(source.process.pid), time.perf_counter()
        before, ours = camera.cpu_times(), time.process_time()
        seen = 0
        while seen < frames:
            item = source.next(0.2)
            if isinstance(item, Frame):
                seen += 1
            elif item is not None:
                lost.append(item.reason)
        took_s, after = time.perf_counter() - start, camera.cpu_times()
        cpu_s = after.user + after.system - before.user - before.system
        return {
            "source": kind, "frames": seen, "lost": len(lost), "reasons": sorted(set(lost))[:3],
            "frames_per_s": round(seen / took_s, 1), "camera_process_cpu_ms": round(1e3 * cpu_s / seen, 2),
            "line_cpu_ms": round(1e3 * (time.process_time() - ours) / seen, 2),
        }  # fmt: skip


def waits_for_the_gil(kind: str, cti: str, frames: int, rate_hz: float) -> dict[str, Any]:
    """How late a thread comes that wants to run each millisecond, in a process that fetches and unpacks."""
    driver = importlib.import_module(process_module(kind))
    asked = json.loads(settings(kind, cti, rate_hz).model_dump_json())
    idle, busy, over = list[float](), list[float](), threading.Event()
    now = [idle]

    def tick() -> None:
        while not over.is_set():
            start = time.perf_counter()
            time.sleep(TICK_S)
            now[0].append(time.perf_counter() - start - TICK_S)

    thread = threading.Thread(target=tick)
    with producer(kind, rate_hz):
        device = driver.open_device(asked)
        unpacker = Unpacker(WIRE_FORMATS["Mono8"], WIDTH, HEIGHT, None, 2)
        out = np.empty(unpacker.out_bytes, np.uint8)
        thread.start()
        time.sleep(2)
        device.start()
        now[0], seen = busy, 0
        while seen < frames:
            fetched = device.fetch(0.25)
            if fetched is None:
                continue
            if fetched.data is not None and fetched.data.nbytes >= WIDTH * HEIGHT:
                unpacker.into(fetched.data[: WIDTH * HEIGHT], out, 0)
                seen += 1
            fetched.done()
        over.set()
        thread.join()
        device.stop()
        device.close()
        unpacker.close()
    late = {name: np.array(values) * 1e3 for name, values in (("idle", idle), ("fetching", busy))}
    return {
        f"gil_late_ms_{name}_{what}": round(float(np.quantile(values, at)), 2)
        for name, values in late.items()
        for what, at in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", choices=sorted(TABLES))
    parser.add_argument("--cti", default="", help="TLSimu.cti, for genicam")
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=15.0, help="frames a second that the camera is to send")
    options = parser.parse_args()
    gige = [kind for kind in options.sources if kind != "genicam"]
    if gige and not os.environ.get(namespace.INSIDE):
        if reason := namespace.why_not():
            sys.exit(reason)
        command = ["unshare", "-n", sys.executable, __file__, *gige, "--frames", str(options.frames)]
        command += ["--rate", str(options.rate)]
        subprocess.run(command, check=True, env={**os.environ, namespace.INSIDE: "1"})
    namespace.loopback_up()
    for kind in gige if os.environ.get(namespace.INSIDE) else [one for one in options.sources if one == "genicam"]:
        found = through_the_line(kind, options.cti, options.frames, options.rate)
        found |= waits_for_the_gil(kind, options.cti, min(options.frames, 200), options.rate)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

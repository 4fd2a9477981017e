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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import namespace

from hisir_edge.camera.process_host import GenicamCamera
from hisir_edge.camera.processes import process_module
from hisir_edge.config.sources import AravisSource, GenicamSource, VivaSource
from hisir_edge.images.wire import WIRE_FORMATS, Unpacker
from hisir_edge.records import Frame

GIGE = Path(__file__).parents[1] / "gige"
SENSOR_HEIGHT, SENSOR_WIDTH = 0x118, 0x11C
"""Registers of Aravis's camera, whose sensor is smaller."""
TABLES: dict[str, type[BaseModel]] = {"genicam": GenicamSource, "aravis": AravisSource, "viva": VivaSource}
WARM_FRAMES, GIL_FRAMES, TICK_S = 10, 200, 0.001
MONO_OF_TLSIMU = "SN_InterfaceA_0"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured: frames of a size at a rate, from a producer where the source needs one."""

    width: int
    height: int
    frames: int
    rate_hz: float
    cti: str


@contextlib.contextmanager
def producer(kind: str, asked: Asked) -> Iterator[None]:
    """The camera that is fetched from, as a process of its own; none for a GenTL producer."""
    if kind == "genicam":
        yield
        return
    made = json.dumps({"width": asked.width, "height": asked.height, "fps": max(round(asked.rate_hz), 1)})
    command = {
        "aravis": ["/usr/bin/python3", str(GIGE / "fake_camera.py"), "127.0.0.1", "SN1"],
        "viva": [sys.executable, str(GIGE / "viva_camera.py"), made],
    }[kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline().strip() == "running"
        sensor = ((SENSOR_HEIGHT, asked.height), (SENSOR_WIDTH, asked.width))
        for register, value in sensor if kind == "aravis" else ():
            process.stdin.write(f"{register:x} {value:x}\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == "written"
        try:
            yield
        finally:
            process.kill()


def settings(kind: str, asked: Asked) -> Any:
    """The [source] table."""
    size = {"type": kind, "pixel_format": "Mono8", "width": asked.width, "height": asked.height}
    if kind == "genicam":
        return GenicamSource.model_validate({**size, "cti": asked.cti, "serial": MONO_OF_TLSIMU})
    rate = {"frame_rate_hz": asked.rate_hz} if kind == "aravis" else {}
    return TABLES[kind].model_validate({**size, **rate, "packet_bytes": 8900})


def through_the_line(kind: str, asked: Asked) -> dict[str, Any]:
    """Frames taken by the line from the camera's process, and what that process took for them."""
    with producer(kind, asked), GenicamCamera(settings(kind, asked)) as source:
        seen, lost = 0, list[str]()
        while seen < min(WARM_FRAMES, asked.frames):
            seen += isinstance(source.next(0.2), Frame)
        assert source.process is not None
        camera, start = psutil.Process(source.process.pid), time.perf_counter()
        before, ours = camera.cpu_times(), time.process_time()
        seen = 0
        while seen < asked.frames:
            item = source.next(0.2)
            if isinstance(item, Frame):
                seen += 1
            elif item is not None:
                lost.append(item.reason)
        took_s, after = time.perf_counter() - start, camera.cpu_times()
        cpu_s = after.user + after.system - before.user - before.system
        return {
            "source": kind, "frame": f"{asked.width}x{asked.height}", "frames": seen, "lost": len(lost),
            "reasons": sorted(set(lost))[:3],
            "frames_per_s": round(seen / took_s, 1), "camera_process_cpu_ms": round(1e3 * cpu_s / seen, 2),
            "line_cpu_ms": round(1e3 * (time.process_time() - ours) / seen, 2),
            "camera_process_mb": round(camera.memory_info().rss / 1e6),
        }  # fmt: skip


def waits_for_the_gil(kind: str, asked: Asked) -> dict[str, Any]:
    """How late a thread comes that wants to run each millisecond, in a process that fetches and unpacks."""
    driver = importlib.import_module(process_module(kind))
    frames, area = min(asked.frames, GIL_FRAMES), asked.width * asked.height
    idle, busy, over = list[float](), list[float](), threading.Event()
    now = [idle]

    def tick() -> None:
        while not over.is_set():
            start = time.perf_counter()
            time.sleep(TICK_S)
            now[0].append(time.perf_counter() - start - TICK_S)

    thread = threading.Thread(target=tick)
    with producer(kind, asked):
        device = driver.open_device(json.loads(settings(kind, asked).model_dump_json()))
        unpacker = Unpacker(WIRE_FORMATS["Mono8"], asked.width, asked.height, None, 2)
        out = np.empty(unpacker.out_bytes, np.uint8)
        thread.start()
        time.sleep(2)
        device.start()
        now[0], seen = busy, 0
        while seen < frames:
            fetched = device.fetch(0.25)
            if fetched is None:
                continue
            if fetched.data is not None and fetched.data.nbytes >= area:
                unpacker.into(fetched.data[:area], out, 0)
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
    parser.add_argument("--size", default="4096x3000", help="WIDTHxHEIGHT")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    asked = Asked(width, height, options.frames, options.rate, options.cti)
    inside, gige = bool(os.environ.get(namespace.INSIDE)), [kind for kind in options.sources if kind != "genicam"]
    if gige and not inside:
        if reason := namespace.why_not():
            sys.exit(reason)
        command = ["unshare", "-n", sys.executable, __file__, *gige, "--frames", options.frames]
        command += ["--rate", options.rate, "--size", options.size]
        subprocess.run([str(c) for c in command], check=True, env={**os.environ, namespace.INSIDE: "1"})
    namespace.loopback_up()
    for kind in gige if inside else [one for one in options.sources if one == "genicam"]:
        print(json.dumps(through_the_line(kind, asked) | waits_for_the_gil(kind, asked)), flush=True)


if __name__ == "__main__":
    main()

"""``hisir-edge`` with a GPU that is the host's memory (host_device.py), for tests of the daemon on one.

python tests/support/gpu_line_process.py KERNELS.so DIES_WHEN_THIS_FILE_IS_THERE run --config line.toml
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import hisir_edge.line.products as products
from hisir_edge.cli.main import main
from hisir_edge.cuda.inspector import CudaInspector
from support.host_device import HostDevice, HostEngine


class MortalEngine(HostEngine):
    """Fails, and takes its device along, once a file is there."""

    def __init__(self, bundle, batch, device, omen: Path) -> None:
        super().__init__(bundle, batch)
        self.device, self.omen = device, omen

    def enqueue(self, *arguments):
        if self.omen.exists():
            self.device.broken, self.spoil = True, "failure"
        super().enqueue(*arguments)


def inspector(bundle, threads=0):
    device = HostDevice(ctypes.CDLL(library))
    made = CudaInspector(bundle, device, lambda: MortalEngine(bundle, 16, device, Path(omen)))
    made.rig.records[0] = False  # so that the engine is asked each time
    return made


library, omen, *sys.argv[1:] = sys.argv[1:]
products.inspector_from_bundle = inspector
main()

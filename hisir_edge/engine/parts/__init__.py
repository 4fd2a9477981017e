"""Parts and their places from CAD: pick-and-place files onto the golden image (``hisir-edge parts import``)."""

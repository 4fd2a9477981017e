"""Picture files: read by one set of rules (docs/reference/pictures.md), and written. Colours are RGB in memory."""

from hisir_edge.images.folders import (
    IMAGE_SUFFIXES,
    check_apart,
    image_paths,
    is_picture,
    pictures_below,
    pictures_in,
)
from hisir_edge.images.header import MAX_PIXELS, MAX_SIDE_PX, PictureHeader
from hisir_edge.images.read import (
    Rules,
    header_of_picture,
    is_grey,
    is_jpeg,
    read_grey,
    read_mask,
    read_pixels,
    read_rgb,
    read_truth,
)
from hisir_edge.images.write import jpeg_bytes, mask_png_bytes, mask_rle_bytes, picture_file, png_bytes, write_atomic

__all__ = [
    "IMAGE_SUFFIXES", "MAX_PIXELS", "MAX_SIDE_PX", "PictureHeader", "Rules", "check_apart", "header_of_picture",
    "image_paths", "is_grey", "is_jpeg", "is_picture", "jpeg_bytes", "mask_png_bytes", "mask_rle_bytes", "picture_file",
    "pictures_below", "pictures_in", "png_bytes", "read_grey", "read_mask", "read_pixels", "read_rgb", "read_truth",
    "write_atomic",
]  # fmt: skip

"""A bundle's manifest in words, and what two of them differ in."""

from __future__ import annotations

from typing import Any

from hisir_edge.backends import PORTABLE_WORDS
from hisir_edge.bundle.manifest import CascadeModel, Manifest, OpticsModel
from hisir_edge.corruption.plant import words_of_classes

IDENTITY = ("created_at", "seal_sha256")
"""Keys that differ between any two builds and say nothing."""


def words_of_optics(optics: OpticsModel | None) -> str:
    """What a bundle watches in how frames are taken."""
    if optics is None:
        return "not watched: built by a version that did not"
    light = (
        f"brightness {optics.least_brightness:.2f} to {optics.most_brightness:.2f} of the good boards', "
        f"white {optics.most_white_share:.1%} at most"
    )
    if optics.most_blur_px is None or optics.lost_blur_px is None:
        return f"blur not watched (too few edges on the board); {light}"
    return f"blur warns from {optics.most_blur_px:.1f} px, is not judged from {optics.lost_blur_px:.1f} px; {light}"


def lines_of_manifest(manifest: Manifest) -> list[str]:
    """Facts of a bundle for a technician, one line each."""
    r, t = manifest.recipe, manifest.thresholds
    lines = [
        f"product      {manifest.product}",
        f"engine       {manifest.target} {manifest.precision}, {manifest.backbone} of width {manifest.width}",
        f"made         {manifest.created_at} by hisir-edge {manifest.software_version}",
        (
            f"frames       {r.frame_width}x{r.frame_height}, scale {r.scale:g}, tiles of {r.tile_px} px overlapping by "
            f"{r.overlap_px}, {'registered' if r.registered else 'not registered'}, "
            f"{'colour or grey is not recorded' if r.grey is None else 'grey' if r.grey else 'colour'}"
        ),
        f"thresholds   pixel {t.pixel:.4g}, region peak {t.region_peak:.4g}, least area {t.min_area_px} px",
        (
            f"false calls  {t.false_calls_per_board:g} a board wanted; at most {t.false_calls_upper_bound_95:.2g} with "
            f"95 % confidence from {t.held_out_boards} boards; {t.boards_to_prove} without a call would prove it"
        ),
    ]
    lines.append(f"optics       {words_of_optics(manifest.optics)}")
    for place in t.not_counted:
        size = f"{place.width:g}x{place.height:g} px at {place.x:g}, {place.y:g}"
        lines.append(f"not counted  {place.picture} alone differs, {size}: strength {place.strength:g}")
    if (made := manifest.revision) is not None:
        lines.append(
            f"revision     {made.number} of {made.of_sha256[:12]}, by {made.who} at {made.at}: {made.why}; region "
            f"threshold {made.strength:g} times the build's"
        )
    if (v := manifest.reviewed) is not None:
        lines.append(
            f"reviewed     {v.boards} boards: {v.gone} of {v.false_calls} false calls gone, {v.found} of {v.defects} "
            "confirmed defects and escapes found"
        )
        lines += [f"  not so     {words}" for words in v.not_so]
    for z in manifest.zones:
        where = "outside of" if z.outside else "within"
        lines.append(f"zone         {z.name}: sensitivity {z.sensitivity:g}, {where} {len(z.polygon)} corners")
    if manifest.mm_per_px:
        lines.append(f"scale        {manifest.mm_per_px:g} mm a pixel")
    if manifest.components:
        lines.append(f"components   {len(manifest.components)}")
    if (c := manifest.calibration) is not None:
        kept = f"; left in float: {', '.join(c.kept_float)}" if c.kept_float else ""
        lines.append(
            f"calibration  {c.method} on {c.tiles} tiles of {c.images} boards (list {c.list_sha256[:12]}), "
            f"{c.int8_convolutions} convolutions in int8, {c.float_convolutions} in float{kept}"
        )
    if (m := manifest.metrics) is not None:
        lines.append(
            f"gate         AUPRO {m.aupro:.4f} (float32 {m.aupro_fp32:.4f}), pixel AUROC {m.pixel_auroc:.4f} "
            f"({m.pixel_auroc_fp32:.4f}), recall of {m.planted} planted defects {m.recall:.3f} ({m.recall_fp32:.3f}), "
            f"false regions {m.false_regions} ({m.false_regions_fp32}) on {m.held_out_boards} boards"
        )
        if m.planted_by_class:
            lines.append(f"planted      {words_of_classes(m.planted_by_class, m.recall_by_class)}")
    lines += _of_cascade(manifest.cascade)
    if (j := manifest.judged_on) is not None:
        lines.append(f"judged on    ONNX Runtime {j.onnxruntime}, int8 instructions {j.int8_instructions or 'none'}")
    if (e := manifest.engine) is not None:
        lines.append(
            f"compiled     {manifest.target} {e.version} for {', '.join(e.gpu_arch) or PORTABLE_WORDS}, "
            f"{'/'.join(map(str, e.profile_tiles))} tiles a call"
        )
    lines.append(f"self-test    {manifest.self_test.image}, {len(manifest.self_test.plants)} planted defects")
    return [*lines, *(f"file         {name} {digest[:12]}" for name, digest in sorted(manifest.files.items()))]


def _of_cascade(look: CascadeModel | None) -> list[str]:
    if look is None:
        return []
    share, bound = f"{look.looked_share_good:.0%}", f"{look.waved_upper_bound_95:.2%}"
    words = f"first look   {share} of good boards' tiles go on to the network; of {look.called} planted defects that it"
    return [f"{words} calls none is lost, at most {bound} with 95 % confidence"]


def differences(first: Manifest, second: Manifest) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value of the first, of the second), where they differ; None for what one of them lacks."""
    a, b = _flat(first.model_dump(mode="json")), _flat(second.model_dump(mode="json"))
    keys = [*a, *(key for key in b if key not in a)]
    return {k: (a.get(k), b.get(k)) for k in keys if k not in IDENTITY and a.get(k) != b.get(k)}


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {k: v for name, part in value.items() for k, v in _flat(part, f"{key}.{name}" if key else name).items()}
    return {key: value}

"""Self-test of a loaded bundle.

Its golden board must PASS, FAIL at the defects that its manifest plants into it, and show enough of a fresh draw of
planted defects of every class.
"""

from __future__ import annotations

import cv2

from hisir_edge.arrays import U8, u8
from hisir_edge.bundle.describe import rebuild_command
from hisir_edge.bundle.files import GOLDEN
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.manifest import PlantModel
from hisir_edge.errors import BundleError
from hisir_edge.images import read_rgb
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.inspection.draw import Draw, draw_defects
from hisir_edge.records import Judgement, Result


def self_test(inspector: BoardInspector) -> None:
    """BundleError unless the engine, as loaded here, tells the bundle's own good board from a defective one."""
    bundle = inspector.bundle
    picture = picture_of(bundle)
    good = inspector.inspect(picture)
    if good.result is not Result.PASS:
        raise _failed(bundle, "its good board to PASS", f"{good.result.value} ({good.reason})")
    plants = bundle.manifest.self_test.plants
    defective = inspector.inspect(with_plants(picture, plants))
    if defective.result is not Result.FAIL:
        raise _failed(bundle, "its planted defects to FAIL", f"{defective.result.value} ({defective.reason})".strip())
    missed = [plant for plant in plants if not highest_peak_at(defective, plant)]
    if missed:
        raise _failed(bundle, f"all {len(plants)} planted defects to be found", f"{len(missed)} missed")
    _check_draw(inspector, picture, draw_seed(bundle), 1)


def plants_found(inspector: BoardInspector) -> tuple[PlantModel, ...]:
    """Those of the self-test's planted defects that this engine finds, with these zones and thresholds."""
    bundle = inspector.bundle
    plants = bundle.manifest.self_test.plants
    judged = inspector.inspect(with_plants(picture_of(bundle), plants))
    return tuple(plant for plant in plants if highest_peak_at(judged, plant))


def draw_seed(bundle: Bundle) -> int:
    """The draw of a bundle's own self-test: always the same, so that one machine always gives one answer."""
    return int(bundle.manifest_sha256[:8] or "0", 16)


def check_draw(inspector: BoardInspector, seed: int, rounds: int = 1) -> Draw:
    """Inspect a draw of planted defects (``inspection/draw.py``); BundleError where too few are found.

    Too few: what a bundle with the recall that its manifest promises would not show once in a thousand draws.
    """
    return _check_draw(inspector, picture_of(inspector.bundle), seed, rounds)


def _check_draw(inspector: BoardInspector, picture: U8, seed: int, rounds: int) -> Draw:
    bundle = inspector.bundle
    draw = draw_defects(inspector, picture, seed, rounds)
    metrics = bundle.manifest.metrics
    promised = 0.0 if metrics is None else metrics.promised_recall
    if draw.total and draw.recall < draw.least_recall(promised):
        raise _failed(
            bundle,
            f"at least {draw.least_recall(promised):.0%} of a fresh draw of {draw.total} planted defects to be found",
            f"{draw.recall:.0%} ({draw.words()})",
        )
    return draw


def check_first_look(inspector: BoardInspector) -> float | None:
    """The share of tiles that the whole network sees of the bundle's own good board; None without a first look.

    BundleError unless the board, and the board with the manifest's planted defects, are judged as without it. From now
    on the inspector looks first.
    """
    bundle = inspector.bundle
    picture = picture_of(bundle)
    boards = {"its good board": picture, "its planted defects": with_plants(picture, bundle.manifest.self_test.plants)}
    whole = {name: inspector.inspect(board) for name, board in boards.items()}
    if not inspector.look_first(guarded=False):
        return None
    for name, board in boards.items():
        judged = inspector.inspect(board)
        if judged.result is not whole[name].result or [r.box_xywh for r in judged.regions] != [
            r.box_xywh for r in whole[name].regions
        ]:
            raise _failed(
                bundle, f"{name} to be judged with its first look as without it",
                f"{judged.result.value} ({judged.reason}) instead of {whole[name].result.value} ({whole[name].reason})",
            )  # fmt: skip
    return inspector.inspect(picture).looked_share


def _failed(bundle: Bundle, expected: str, received: str) -> BundleError:
    return BundleError(
        expected=f"the self-test of {bundle.folder}: {expected}",
        received=received,
        fix=f"do not use this bundle here; {rebuild_command(bundle.folder, bundle.manifest)}",
    )


def picture_of(bundle: Bundle) -> U8:
    """The good board of the self-test, RGB (h, w, 3) in the camera's size."""
    name = bundle.manifest.self_test.image
    if name != GOLDEN:
        return read_rgb(bundle.folder / name)
    return golden_picture(bundle)


def golden_picture(bundle: Bundle) -> U8:
    """The golden image in the camera's size."""
    golden = u8(cv2.cvtColor(bundle.memory_rgbd, cv2.COLOR_RGBA2RGB))  # ten times as fast as a copy of three planes
    h, w = bundle.recipe.frame_hw
    return golden if golden.shape[:2] == (h, w) else u8(cv2.resize(golden, (w, h), interpolation=cv2.INTER_CUBIC))


def with_plants(picture: U8, plants: tuple[PlantModel, ...]) -> U8:
    """A copy of a picture with patches of itself where they do not belong."""
    out: U8 = picture.copy()
    for p in plants:
        source = picture[p.from_y : p.from_y + p.height, p.from_x : p.from_x + p.width]
        out[p.y : p.y + p.height, p.x : p.x + p.width] = 255 - source if p.negative else source
    return out


def highest_peak_at(judgement: Judgement, plant: PlantModel) -> float:
    """The highest peak of the called regions whose box touches a plant; 0 when none does."""
    peaks = [0.0]
    for region in judgement.regions:
        x, y, w, h = region.box_xywh
        if x < plant.x + plant.width and plant.x < x + w and y < plant.y + plant.height and plant.y < y + h:
            peaks.append(region.peak)
    return max(peaks)

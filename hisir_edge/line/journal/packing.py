"""A verdict's JSON on the disk: deflated with a dictionary of what all verdicts share, to the byte as it was published.

zlib's preset dictionaries (RFC 1950, FDICT): 2.1 kB of JSON take some 0.5 kB, at 0.1 ms.
"""

from __future__ import annotations

import zlib

PLAIN, DEFLATED = 0, 1
LEVEL = 6
DICTIONARY_1 = (
    b'"variants":[],"registration_residual_px":0.,"board_pose":null,"board_pose":{"shift_x_px":-0.,"shift_y_px":-0.,'
    b'"turn_deg":-0.,"scale":1.0,"inliers":1,"inlier_share":1.0},"mask_y":0,"ReferenceDesignator":"","PartNumber":"",'
    b'"ComponentOfInterest":{"mm":{"StartPointX":,"StartPointY":,"RegionSegments":[{"X":,"Y":},{"X":'
    b'{"UniqueIdentifier":"","DefectCode":"ANOMALY","RegionOfInterest":{"px":{"x":,"y":,"w":,"h":,"contour":[['
    b'"Priority":1,"ConfidenceLevel":99.9,"Verification":"NotVerifiedYet","vision":{"area_px":,"peak":'
    b"expected the camera to be there; got a lost camera; no frame within ms; the daemon ended before this board was "
    b'judged (crash, kill or power cut)","Error","Failed","Comments":"1 region(s)"'
    b'{"schema":"hisir-edge/verdict/2.2","line":"line-1","epoch":"","seq":,"TransactionId":"","UniqueID":"-",'
    b'"TimeStamp":"2026-01-01T00:00:00.000000+00:00","Source":"hisir-edge.line-1","InspectionMethod":"AOI",'
    b'"RecipeName":"board","RecipeRevision":"","InspectedUnits":[{"UnitIdentifier":"camera-00000000",'
    b'"UnitPositionNumber":1,"OverallResult":"Passed","Inspections":[{"UniqueIdentifier":"","InspectionName":"camera",'
    b'"InspectionStartTime":"2026-01-01T00:00:00.000000+00:00","InspectionEndTime":"2026-01-01T00:00:00.000000+00:00",'
    b'"Result":"Passed","Error":null,"Comments":null,"Verification":"NotVerifiedYet","DefectsFound":[],'
    b'"vision":{"frame_id":,"grabbed_at":"2026-01-01T00:00:00.000000+00:00","frame":{"width":4096,"height":3000},'
    b'"mask_y":0,"score":0.,"defects_total":0,"registration_residual_px":0.,"board_pose":{"shift_x_px":,"shift_y_px":'
    b',"turn_deg":0.0,"scale":1.0,"inliers":,"inlier_share":1.0},"variants":[],"bundle_sha256":""}}]}],'
    b'"vision":{"reason":"","score":0.,"defects_total":0,"times_s":{"register":0.0,"tile":0.0,"infer":0.0,"merge":0.0,'
    b'"judge":0.0,"total":0.0},"thresholds":{"pixel":0.6931471805599453,"region_peak":,"min_area_px":9,'
    b'"false_calls_per_board":0.05},"engine":{"target":"onnxruntime","precision":"int8","backbone":"unet",'
    b'"software_version":"0.1.0"}}}'
)
"""Never changed: journals are read with it. Another one would be another form."""


def packed(body: bytes) -> tuple[int, bytes]:
    """(Form, bytes) for the disk."""
    pack = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, 0, DICTIONARY_1)
    small = pack.compress(body) + pack.flush()
    return (DEFLATED, small) if len(small) < len(body) else (PLAIN, body)


def unpacked(form: int, stored: bytes) -> bytes:
    """The bytes as they were published; ValueError for what this version cannot read, or what is damaged."""
    if form == PLAIN:
        return stored
    if form != DEFLATED:
        raise ValueError(f"a verdict in form {form}; this version reads up to {DEFLATED}")
    try:
        unpack = zlib.decompressobj(zlib.MAX_WBITS, DICTIONARY_1)
        body = unpack.decompress(stored) + unpack.flush()
    except zlib.error as error:
        raise ValueError(f"a damaged verdict ({error})") from error
    if not unpack.eof:
        raise ValueError("a verdict cut short")
    return body

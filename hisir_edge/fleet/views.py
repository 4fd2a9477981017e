"""What is asked of a fleet, as SQL views over its tables: for PostgreSQL, and for DuckDB over Parquet.

A called board is confirmed, a false call, or waits for a person, as on the operator's page (``view.statistics``).
"""

from __future__ import annotations

BASELINE_OF_LINES = """
SELECT line, product, bundle, avg(score) AS score, stddev_samp(score) AS score_sd, avg(blur_px) AS blur_px,
  stddev_samp(blur_px) AS blur_sd, avg(brightness) AS brightness, stddev_samp(brightness) AS brightness_sd
FROM (
  SELECT v.*, row_number() OVER (PARTITION BY line, product, bundle ORDER BY given_at, epoch, seq) AS place
  FROM verdict v WHERE result = 'PASS'
) numbered WHERE place <= 400 GROUP BY line, product, bundle HAVING count(*) = 400"""
"""What drift counts from. A table in PostgreSQL, where it is kept once it is known; a view in DuckDB."""
VIEWS = {
    "last_decision": """
SELECT line, epoch, seq, defect, verification, operator, decided_at FROM (
  SELECT d.*, row_number() OVER (PARTITION BY line, epoch, seq, defect ORDER BY id DESC) AS place FROM decision d
) ordered WHERE place = 1 AND verification <> 'NotVerifiedYet'""",
    "board": """
SELECT v.*, CASE
  WHEN v.result = 'PASS' THEN CASE WHEN coalesce(s.confirmed, 0) > 0 THEN 'escape' ELSE 'passed' END
  WHEN v.result <> 'FAIL' THEN 'error'
  WHEN coalesce(s.confirmed, 0) + coalesce(s.repaired, 0) > 0 THEN 'confirmed'
  WHEN coalesce(s.board_rejected, 0) > 0 OR coalesce(s.rejected, 0) >= v.defects THEN 'false call'
  ELSE 'waiting' END AS outcome
FROM verdict v LEFT JOIN (
  SELECT line, epoch, seq,
    sum(CASE WHEN verification = 'DefectConfirmed' THEN 1 ELSE 0 END) AS confirmed,
    sum(CASE WHEN verification = 'DefectAccepted' THEN 1 ELSE 0 END) AS repaired,
    sum(CASE WHEN verification = 'DefectRejected' AND defect = 0 THEN 1 ELSE 0 END) AS board_rejected,
    sum(CASE WHEN verification = 'DefectRejected' AND defect > 0 THEN 1 ELSE 0 END) AS rejected
  FROM last_decision GROUP BY line, epoch, seq
) s ON s.line = v.line AND s.epoch = v.epoch AND s.seq = v.seq""",
    "yield_by_day": """
SELECT day, plant, line, product, bundle, boards, judged, reviewed, passed, confirmed, false_calls, waiting, escapes,
  errors, (passed + escapes) * 1.0 / nullif(judged, 0) AS first_pass_yield,
  CASE WHEN confirmed + false_calls > 0 OR waiting = 0 THEN false_calls * 1.0 / nullif(reviewed, 0) END
    AS false_calls_per_board
FROM (
  SELECT c.*, boards - errors AS judged, boards - errors - waiting AS reviewed FROM (
    SELECT day, plant, line, product, bundle, count(*) AS boards,
      sum(CASE outcome WHEN 'passed' THEN 1 ELSE 0 END) AS passed,
      sum(CASE outcome WHEN 'confirmed' THEN 1 ELSE 0 END) AS confirmed,
      sum(CASE outcome WHEN 'false call' THEN 1 ELSE 0 END) AS false_calls,
      sum(CASE outcome WHEN 'waiting' THEN 1 ELSE 0 END) AS waiting,
      sum(CASE outcome WHEN 'escape' THEN 1 ELSE 0 END) AS escapes,
      sum(CASE outcome WHEN 'error' THEN 1 ELSE 0 END) AS errors
    FROM board GROUP BY day, plant, line, product, bundle
  ) c
) counted""",
    "calls_by_part": """
SELECT v.day, v.plant, v.line, v.product, v.bundle,
  CASE WHEN f.component <> '' THEN f.component ELSE concat(f.camera, ' ',
    CAST(floor((f.x + f.w / 2.0) / 64) * 64 AS bigint), ', ',
    CAST(floor((f.y + f.h / 2.0) / 64) * 64 AS bigint)) END AS place,
  count(*) AS called,
  sum(CASE coalesce(own.verification, whole.verification) WHEN 'DefectRejected' THEN 1 ELSE 0 END) AS false_calls,
  sum(CASE WHEN coalesce(own.verification, whole.verification) IN ('DefectConfirmed', 'DefectAccepted')
    THEN 1 ELSE 0 END) AS confirmed
FROM defect f
JOIN verdict v ON v.line = f.line AND v.epoch = f.epoch AND v.seq = f.seq AND v.day = f.day
LEFT JOIN last_decision own
  ON own.line = f.line AND own.epoch = f.epoch AND own.seq = f.seq AND own.defect = f.number
LEFT JOIN last_decision whole
  ON whole.line = f.line AND whole.epoch = f.epoch AND whole.seq = f.seq AND whole.defect = 0
GROUP BY 1, 2, 3, 4, 5, 6""",
    "drift_by_day": """
SELECT d.day, d.plant, d.line, d.product, d.bundle, d.boards, d.score, d.blur_px, d.brightness, d.total_s,
  (d.score - b.score) / nullif(b.score_sd, 0) AS score_sigmas,
  (d.blur_px - b.blur_px) / nullif(b.blur_sd, 0) AS blur_sigmas,
  (d.brightness - b.brightness) / nullif(b.brightness_sd, 0) AS brightness_sigmas
FROM (
  SELECT day, plant, line, product, bundle, count(*) AS boards, avg(score) AS score, avg(blur_px) AS blur_px,
    avg(brightness) AS brightness, avg(total_s) AS total_s
  FROM verdict WHERE result = 'PASS' GROUP BY day, plant, line, product, bundle
) d LEFT JOIN baseline b ON b.line = d.line AND b.product = d.product AND b.bundle = d.bundle""",
}
"""By name, each after those that it asks."""
WORDS = {
    "last_decision": "the last decision on each defect (0: on the board)",
    "board": "every verdict with its outcome: passed, escape, confirmed, false call, waiting, error",
    "yield_by_day": "boards, first-pass yield and false calls a board, with their denominators",
    "calls_by_part": "how often a part, or a place of 64 px, was called, and what people said of it",
    "drift_by_day": "score, blur, light and time of passed boards, and by how many deviations of the first 400 passed"
    " ones they are off; none before there were 400",
}

"""Many lines' verdicts and decisions in one place, to be asked about: PostgreSQL, or Parquet by hour."""

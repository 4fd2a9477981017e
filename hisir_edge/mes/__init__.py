"""The MES side: receiving verdicts."""

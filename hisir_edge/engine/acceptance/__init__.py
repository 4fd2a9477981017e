"""Whether an engine may ship: its maps of good boards, thresholds from them, and the comparison with float32."""

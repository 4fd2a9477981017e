"""Rendered boards for tests, benchmarks and the demonstration; never imported by line/."""

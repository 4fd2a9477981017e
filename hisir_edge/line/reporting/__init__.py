"""Reports beside the verdicts: log, metrics, pictures, the service manager."""

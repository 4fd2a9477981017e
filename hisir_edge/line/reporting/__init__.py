"""What the line reports beside its verdicts: log, metrics, pictures, the service manager."""

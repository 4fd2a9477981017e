"""What the line says and answers over ZeroMQ."""

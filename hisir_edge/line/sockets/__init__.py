"""Publishing and answering over ZeroMQ."""

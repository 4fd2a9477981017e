"""The line as an endpoint of IPC-CFX (IPC-2591) over AMQP 1.0."""

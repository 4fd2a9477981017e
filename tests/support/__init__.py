"""What tests share: the one way to start a daemon, a line, a subscriber and a camera."""

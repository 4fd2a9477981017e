"""IPC-HERMES-9852: boards announced by the machine before."""

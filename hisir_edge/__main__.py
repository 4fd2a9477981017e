"""``python -m hisir_edge``."""

from hisir_edge.cli import main

if __name__ == "__main__":
    main()

"""``python -m hisir_edge``."""

from hisir_edge.cli.main import main

if __name__ == "__main__":
    main()

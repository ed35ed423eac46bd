"""``python -m topkin`` is the command ``topkin``."""

from topkin.pipelines.cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())

"""Look for inputs that a reader does not stand, led by which lines they reach: README.md says how."""

import importlib
import sys

import atheris


def main() -> None:
    """Fuzz the reader of the first argument; the rest are libFuzzer's. What reaches more goes to its first folder."""
    reader = sys.argv.pop(1)
    with atheris.instrument_imports(include=["lavit_core", "tarfile", "json", "csv"]):
        read = importlib.import_module(f"read_{reader}").read
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

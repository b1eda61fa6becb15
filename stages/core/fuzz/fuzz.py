"""Look for inputs that a reader does not stand, led by which lines they reach: README.md says how."""

import importlib
import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent


def main() -> None:
    """Fuzz the reader of the first argument; the rest are libFuzzer's. New inputs that reach more go to its corpus."""
    reader = sys.argv.pop(1)
    with atheris.instrument_imports(include=["lavit_core", "tarfile", "json", "csv"]):
        read = importlib.import_module(f"read_{reader}").read
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    atheris.Setup([*sys.argv, *([] if folders else [str(HERE / "corpus" / reader)])], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""A byte that changes on the disk: `lavit verify` finds it and names the file, whichever the file and the byte."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Mini
from lavit_core.verify import verify

FLIPS = 200


def flips(folder: Path, count: int, seed: int) -> Iterator[tuple[Path, bytes, bytes]]:
    """Yield files with the content they have and a content of one bit more or less: each file gets its share."""
    draw = random.Random(seed)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
    weights = [file.stat().st_size for file in files]
    for number in range(count):
        # Large files would hide the small ones, so every other flip is drawn by file.
        file = draw.choice(files) if number % 2 else draw.choices(files, weights)[0]
        before = file.read_bytes()
        place = draw.randrange(len(before))
        after = bytes([*before[:place], before[place] ^ 1 << draw.randrange(8), *before[place + 1 :]])
        yield file, before, after


def same_json(before: bytes, after: bytes) -> bool:
    """Tell whether both are JSON of one content: 1e-05 and 1E-05."""
    try:
        return json.loads(before) == json.loads(after)
    except ValueError:
        return False


def missed(folder: Path, count: int = FLIPS, seed: int = 0) -> list[str]:
    """Return the flips that `verify` does not find, or whose file it does not name."""
    assert not [problem for part in verify(folder, quiet=True) for problem in part.problems]
    found = []
    for file, before, after in flips(folder, count, seed):
        file.write_bytes(after)
        told = [problem for part in verify(folder, quiet=True) for problem in part.problems]
        if not any(str(file) in problem for problem in told) and not same_json(before, after):
            found.append(f"{file.relative_to(folder)}: {told}")
        file.write_bytes(before)
    return found


def copy(source: Path, target: Path) -> Path:
    """Copy without links: a flip must not reach the miniature that all tests share."""
    return shutil.copytree(source, target, ignore=shutil.ignore_patterns(".lock", ".tasks.lock"))


def test_flips_in_a_token_directory(mini: Mini, tmp_path: Path) -> None:
    assert missed(copy(mini.tokens, tmp_path / "tokens")) == []


@pytest.mark.parametrize("place", ["model", "encoder", "tokenizer", "pretrain", "detokenizer"])
def test_flips_in_models_and_checkpoints(mini: Mini, tmp_path: Path, place: str) -> None:
    """Of the model with all parts, and of each training: its checkpoints, its model and its record."""
    assert missed(copy(mini.run / place, tmp_path / place), FLIPS // 5) == []

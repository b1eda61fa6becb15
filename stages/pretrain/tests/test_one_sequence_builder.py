"""The brackets `[IMG]` and `[/IMG]` are put into sequences by one module."""

import re
from pathlib import Path

import lavit_pretrain

WRITES = "sequence.py"
READS = {"vocabulary.py", "sample_codes.py", "packed_loss.py", "swapped_context.py", "train_language_model.py",
         "shown_documents.py", "interleave.py"}  # fmt: skip
"""Modules that look for a bracket's id in finished sequences, or sample where an image begins and ends."""


def test_only_sequence_and_readers_of_finished_sequences_use_the_brackets_ids() -> None:
    package = Path(lavit_pretrain.__file__).parent
    users = {file.name for file in package.glob("*.py") if re.search(r"\.(end_)?img\b", file.read_text("utf-8"))}
    assert users - READS == {WRITES}

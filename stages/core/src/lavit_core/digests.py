"""JSON files that carry a digest of their own content, so that a changed byte is noticed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lavit_core.errors import VerificationError
from lavit_core.files import canonical_json

KEY = "sha256"


def with_digest(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with the SHA-256 of its canonical JSON under the key `sha256`."""
    return {**value, KEY: _digest(value)}


def check_digest(file: Path, value: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the content of `file` without its digest, and whether it has one (older files do not).

    Raises VerificationError with both digests if they differ.
    """
    rest = {name: part for name, part in value.items() if name != KEY}
    if KEY not in value:
        return rest, False
    if (found := _digest(rest)) != value[KEY]:
        recorded = str(value[KEY])[:12]
        raise VerificationError(
            f"{file}: SHA-256 {found[:12]} of its content, expected {recorded}: changed after it was written; "
            f'restore it, or take the key "{KEY}" out if the change is yours'
        )
    return rest, True


def _digest(value: Mapping[str, Any]) -> str:
    try:
        return hashlib.sha256(canonical_json(value).encode()).hexdigest()
    # A damaged file may hold NaN or unpaired surrogates, which have no canonical form.
    except ValueError:
        return "none: not canonical JSON"

import json

import pytest
from lavit_core.digests import check_digest, with_digest
from lavit_core.errors import VerificationError


def test_every_changed_byte_is_noticed_or_changes_nothing(tmp_path):
    file = tmp_path / "a.json"
    value = {"b": [1, 2.5, None], "a": "é"}
    sealed = with_digest(value)
    assert check_digest(file, sealed) == (value, True)
    assert check_digest(file, value) == (value, False)
    content = json.dumps(sealed, indent=2, ensure_ascii=False).encode()
    noticed = 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        try:
            found = json.loads(changed)
        except ValueError:
            continue
        if "sha256" not in found:
            continue  # the key's own name: `check_digest` reports that the file has no digest
        if found == sealed:
            continue
        with pytest.raises(VerificationError, match=r"a\.json: SHA-256 .*, expected .*: changed after"):
            check_digest(file, found)
        noticed += 1
    assert noticed > 64


def test_what_has_no_canonical_form_does_not_match():
    with pytest.raises(VerificationError):
        check_digest("a.json", {"a": float("nan"), "sha256": "0"})

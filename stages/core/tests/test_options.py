"""What only a dry run goes without."""

import pytest
from lavit_core.errors import UsageError
from lavit_core.options import needed


def test_what_is_missing_is_named():
    assert needed("--out", 0) == 0
    with pytest.raises(UsageError, match="--out: not given, and only a --dry-run goes without"):
        needed("--out", None)

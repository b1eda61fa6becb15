"""The validation split."""

import numpy as np
import pytest
from lavit_tokenizer.validation import split_validation


@pytest.mark.parametrize(("items", "asked", "held"), [(100, 256, 10), (100, 5, 5), (3, 5, 3), (1, 5, 1)])
def test_validation_split(items, asked, held):
    train, validation = split_validation(items, asked, seed=0)
    assert len(validation) == held
    assert len(train) == (items if items < 10 else items - held)
    if items >= 10:
        assert not np.intersect1d(train, validation).size

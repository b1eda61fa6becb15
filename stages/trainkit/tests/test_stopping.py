"""A run that ends by itself: a non-finite loss, a stop request."""

from pathlib import Path

import pytest
from lavit_core.errors import LavitError
from lavit_trainkit.stopping import require_finite, stopped


def test_nan_loss_stops_with_one_line(tmp_path: Path) -> None:
    require_finite(1.0, name="loss", step=3, run=tmp_path)
    with pytest.raises(LavitError, match="loss is nan at step 3") as caught:
        require_finite(float("nan"), name="loss", step=3, run=tmp_path)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert stopped(tmp_path, 3, 9).exit_code == 75

"""The held-out split of a training run."""

import numpy as np
from lavit_core.seeds import derive_seed


def split_validation(num_items: int, num_validation: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (training, validation) indices; validation is at most a tenth of the items, and neither is ever empty.

    With fewer than ten items, validation repeats training items rather than being empty.
    """
    order = np.random.default_rng(derive_seed(seed, "validation")).permutation(num_items)
    held = min(num_validation, num_items // 10)
    if held == 0:
        return np.sort(order), np.sort(order[: max(1, min(num_items, num_validation))])
    return np.sort(order[held:]), np.sort(order[:held])

"""Following a training: a tracker that people already have, and images every so many steps. Never imports torch."""

import dataclasses
from typing import Annotated

from lavit_core.distributions import version
from lavit_core.errors import UsageError
from lavit_core.options import option

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")
"""Names of accelerate's trackers that --tracker knows; each is the name of its package too."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FollowOptions:
    """How a training is followed. Nothing here changes the training, so no run directory records it.

    Raises UsageError for an unknown tracker, or one whose package is not installed.
    """

    tracker: Annotated[
        str | None, option("--tracker", metavar="NAME", help="Log to tensorboard, wandb, trackio or mlflow too.")
    ] = None
    sample_every: Annotated[
        int | None, option("--sample-every", metavar="STEPS", min=1, help="Write sample images every STEPS steps.")
    ] = None

    def __post_init__(self) -> None:
        if self.tracker is None:
            return
        if self.tracker not in TRACKERS:
            raise UsageError(f"--tracker {self.tracker}: expected one of {', '.join(TRACKERS)}")
        if version(self.tracker) is None:
            raise UsageError(
                f"--tracker {self.tracker}: its package is not installed; run `pip install {self.tracker}`"
            )


UNFOLLOWED = FollowOptions()
"""No tracker and no samples."""

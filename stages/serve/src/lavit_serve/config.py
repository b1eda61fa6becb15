"""Settings of `lavit serve`."""

from lavit_core.config import Config
from lavit_core.errors import UsageError
from pydantic import Field

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
"""Names that nobody else can reach."""


class ServeSettings(Config):
    """Where the server listens, and how much it takes on."""

    host: str = "127.0.0.1"
    """Address to listen on. Any other than this machine's own needs a key."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    name: str = Field(default="lavit", min_length=1)
    """Name of the model in requests and in /v1/models."""
    max_batch: int = Field(default=16, ge=1)
    """Most images, or texts, that one batch computes. 1 gives the pixels of `LaVIT.generate` exactly."""
    batch_wait_seconds: float = Field(default=0.01, ge=0, le=10)
    """How long an idle model waits for more requests after the first."""
    max_requests: int = Field(default=64, ge=1)
    """Most requests at the same time, computed or waiting; one more is answered with 429."""
    time_limit_seconds: float = Field(default=120, gt=0)
    """Longest time from a request's head to its answer, upload and waiting included; then 504."""
    max_body_bytes: int = Field(default=20 << 20, ge=1)
    """Largest body of a request; a larger one is answered with 413."""
    max_pixels: int = Field(default=1 << 24, ge=1)
    """Most pixels of an image, by its header: before it is decoded."""
    max_images: int = Field(default=10, ge=1)
    """Most images that a request may ask for, or bring."""


def check_key(host: str, api_key: str | None) -> None:
    """Raise UsageError if a key is empty, or if others reach `host` without one."""
    if api_key == "":
        raise UsageError("--api-key is empty (is a shell variable unset?)")
    if host not in THIS_MACHINE and api_key is None:
        raise UsageError(f"--host {host}: others can reach it, so give --api-key or set LAVIT_API_KEY")

"""Libraries that fail while they are imported: a broken installation is no bug of ours."""

import traceback
from collections.abc import Iterator


def broken_library(error: BaseException) -> str | None:
    """Return the library whose import failed and the reason, in one line; None if an error has another cause.

    Libraries hide the first error behind others (transformers: "Could not import module"), so the first one counts.
    """
    for cause in reversed(list(_chain(error))):
        modules = [
            frame.f_globals.get("__name__", "")
            for frame, _ in traceback.walk_tb(cause.__traceback__)
            if frame.f_code.co_name == "<module>"
        ]
        name = modules[-1].partition(".")[0] if modules else ""
        if name and name != "__main__" and not name.startswith("lavit"):
            reason = " ".join(str(cause).split()) or "no message"
            return f"{name} can't be imported ({type(cause).__name__}: {reason[:200]})"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

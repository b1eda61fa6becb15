"""One editing session, turn by turn, and the images that MagicBrush asks for: single-turn and multi-turn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

SETS = {
    "all_turn": "single-turn: every turn from its official input (turn k of a session from the target of turn k - 1)",
    "final_turn": "multi-turn: the last turn of each session, every turn from the edited image of the one before",
    "each_turn": "multi-turn: every turn of that chain (not in the official script)",
}
"""MagicBrush's groups of images, by the official names; each metric names the one it covers."""

TURNS = {"both": tuple(SETS), "single": ("all_turn",), "multi": ("final_turn", "each_turn")}
"""Which groups the setting `turns` keeps."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One instruction of a session, with the official images before and after."""

    source: Path
    target: Path
    instruction: str
    description: str | None
    """What the target shows."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One image that a model is asked for."""

    id: str
    """Name of the edited image without its suffix: 139_1, 139_inde_2, 139_iter_2; 3458_B."""
    folder: str
    """Folder of the edited image below the results, "" for none."""
    cluster: str
    """What it hangs together with: the session, or the input that several requests share."""
    sets: tuple[str, ...]
    """Groups of metrics it counts for; ("",) where there are no groups."""
    source: Path | None
    """The input, None where it is the edited image of `after`."""
    after: str | None
    instruction: str
    target: Path
    description: str | None = None
    """What the target shows, for CLIP-T."""

    @property
    def file_name(self) -> str:
        """Path of the edited image below the results."""
        return f"{self.folder}/{self.id}.png" if self.folder else f"{self.id}.png"


def session_edits(name: str, turns: Sequence[Turn]) -> list[Edit]:
    """Return what a session asks for: `_1`, then `_inde_k` from the official input and `_iter_k` from the turn before.

    Source: evaluation/README.md and edit_cli_single_multi_turn.py of OSU-NLP-Group/MagicBrush.
    """
    edits: list[Edit] = []
    for number, turn in enumerate(turns, 1):
        last = ("final_turn",) if number == len(turns) else ()
        independent = Edit(
            id=f"{name}_1" if number == 1 else f"{name}_inde_{number}",
            folder=name,
            cluster=name,
            sets=("all_turn",),
            source=turn.source,
            after=None,
            instruction=turn.instruction,
            target=turn.target,
            description=turn.description,
        )
        if number == 1:
            edits.append(replace(independent, sets=("all_turn", *last, "each_turn")))
            continue
        before = f"{name}_1" if number == 2 else f"{name}_iter_{number - 1}"
        chained = replace(independent, id=f"{name}_iter_{number}", sets=(*last, "each_turn"), source=None, after=before)
        edits += [independent, chained]
    return edits

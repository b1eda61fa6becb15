"""Hold out a part of a data set: two index folders that link to the original images, which are copied only
out of files that hold several."""

from pathlib import Path

from lavit_core.data import Data, Question, Source, open_data
from lavit_core.errors import InputError
from lavit_core.files import atomic_folder
from lavit_core.json_lines import iterate_json_objects, write_json_lines
from lavit_core.progress import warn
from lavit_core.seeds import derive_seed


def split_data(source: Path | Source, out: Path, *, share: float, seed: int) -> None:
    """Write out/{train,heldout}: captions.jsonl, questions.jsonl and links to the images.

    A hash of an image's key decides its part, so images that are added later move none. Raises InputError if a part
    would be empty.
    """
    if out.exists():
        return
    data = open_data(source)
    if any(record.weight != 1 for record in data.records):
        warn(f"{source}: a quickstart has no weights, each image counts once; run the trainings by hand for them")
    held = held_out(data, source, share=share, seed=seed)
    cut = sum(not held.issuperset(one.keys) and not held.isdisjoint(one.keys) for one in data.questions)
    if cut:
        warn(f"{source}: {cut} of {len(data.questions)} questions have images in both parts; left out")
    with atomic_folder(out) as scratch:
        for name in ("train", "heldout"):
            keys = {record.key for record in data.records if (record.key in held) == (name == "heldout")}
            _write_part(scratch / name, data, keys, with_text=name == "train")


def held_out(data: Data, source: Path | Source, *, share: float, seed: int) -> set[str]:
    """Return the keys of the images that are held out. Raises InputError if a part would be empty."""
    held = {record.key for record in data.records if _is_held_out(record.key, share, seed)}
    if not held or len(held) == len(data.records):
        raise InputError(f"{source}: {len(data.records)} images are too few to hold out {share:.0%} of them")
    return held


def _is_held_out(key: str, share: float, seed: int) -> bool:
    return derive_seed(seed, "heldout", key) < share * 2**63


def _write_part(folder: Path, data: Data, keys: set[str], *, with_text: bool) -> None:
    folder.mkdir()
    records = [record for record in data.records if record.key in keys]
    captions: list[dict[str, object]] = [
        {"file_name": record.key, "captions": list(record.captions)} for record in records
    ]
    write_json_lines(folder / "captions.jsonl", captions)
    # A conversation without images is trained on; one whose images are in both parts is in neither.
    asked = [one for one in data.questions if (keys.issuperset(one.keys) if one.key else with_text)]
    if asked:
        write_json_lines(folder / "questions.jsonl", map(_question, asked))
    scenes = data.root / "scenes.jsonl"
    if scenes.exists():  # drawn data: what each image shows, for the evaluation's judge
        drawn = [row for _, row in iterate_json_objects(scenes)]
        write_json_lines(folder / scenes.name, [row for row in drawn if row["file_name"] in keys])
    # One link for each folder that the keys begin with: keys stay what they are in the original data.
    for top in sorted({Path(record.key).parts[0] for record in records if isinstance(record.image, Path)}):
        (folder / top).symlink_to(data.roots.get(top, data.root / top).resolve())
    # Images inside tars and tables can't be linked to: they are written out, a quickstart has thousands at most.
    for record in records:
        if not isinstance(record.image, Path):
            (folder / record.key).parent.mkdir(parents=True, exist_ok=True)
            (folder / record.key).write_bytes(record.image.read_bytes())


def _question(question: Question) -> dict[str, object]:
    row: dict[str, object] = {"question_id": question.question_id}
    row |= {"file_name": question.key} if question.num_images == 1 else {"images": list(question.keys)}
    row |= {"question": question.question, "answer": question.answer}
    row |= {"earlier": [list(turn) for turn in question.earlier]} if question.earlier else {}
    return row if question.kind is None else row | {"kind": question.kind}

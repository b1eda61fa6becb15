"""What is sent to the Hugging Face hub, and sending it: one commit, so a repository never holds half of it."""

import dataclasses
from pathlib import Path

from lavit_core.errors import InputError, VerificationError
from lavit_core.hub import NAME, Kind
from lavit_core.modeldir import METADATA_FILE, check_no_run, read_metadata
from lavit_core.token_format import MANIFEST_FILE, read_manifest
from lavit_core.verify import verify

CARD = "README.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upload:
    """A repository as it will be: its files by their name there, and its card."""

    name: str
    kind: Kind
    files: dict[str, Path]
    card: str
    private: bool

    @property
    def bytes(self) -> int:
        """Size of the files, without the card."""
        return sum(file.stat().st_size for file in self.files.values())


def check_name(name: str) -> None:
    """Raise InputError for what can't be a repository's name."""
    if NAME.fullmatch(name) is None or "@" in name:
        raise InputError(f"{name}: expected OWNER/NAME, the repository on the hub")


def model_files(model: Path) -> dict[str, Path]:
    """Return the files that lavit.json records, and itself: nothing else of the folder is sent."""
    check_no_run(model)
    parts = read_metadata(model)["parts"]
    inside = [METADATA_FILE, *(f"{part}/{file}" for part in sorted(parts) for file in sorted(parts[part]["files"]))]
    return {name: model / name for name in inside}


def token_files(tokens: Path) -> dict[str, Path]:
    """Return manifest and shards: the records of the run, which name local paths, stay here."""
    return {name: tokens / name for name in (MANIFEST_FILE, *(shard.file for shard in read_manifest(tokens).shards))}


def check_whole(folder: Path, *, quiet: bool) -> None:
    """Read every byte; raise VerificationError with the first thing that is wrong."""
    problems = [problem for checked in verify(folder, quiet=quiet) for problem in checked.problems]
    if problems:
        raise VerificationError(f"{problems[0]} ({len(problems)} wrong, nothing was sent)")


def send(upload: Upload) -> str:
    """Create the repository if it is not there, send everything in one commit, and return the commit's address.

    Files that the hub has already are not sent again, so a command that was stopped goes on. Raises InputError.
    """
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    except ModuleNotFoundError:
        raise InputError(f"{upload.name}: sending needs huggingface_hub; pip install huggingface_hub") from None
    files = {**upload.files, CARD: upload.card.encode()}
    operations = [
        CommitOperationAdd(name, path if isinstance(path, bytes) else str(path)) for name, path in files.items()
    ]
    hub = HfApi()
    try:
        hub.create_repo(upload.name, repo_type=upload.kind, private=upload.private, exist_ok=True)
        commit = hub.create_commit(
            upload.name, operations, repo_type=upload.kind, commit_message=f"lavit: {len(operations)} files"
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{upload.name}: not sent ({reason}); `hf auth login` stores a token that may write") from None
    return str(commit.commit_url)

"""External checkpoints: read as plain tensors only, and compared with the expected names and shapes.

Files are mapped, not read: their pages come in as they are used, and a checkpoint of many files needs memory for one.
"""

import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lavit_trainkit.weight_checks import describing, require_depth, require_finite

Shapes = Mapping[str, tuple[int, ...]]

SHOWN = 3
"""Names an error message lists of each kind."""


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the named tensors of a `.safetensors`, or of a torch checkpoint; nothing stored in it is ever run.

    Raises InputError when the file is missing, damaged, holds code, or anything but named dense tensors.
    """
    loaded = _load(file)
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise InputError(f"{file}: holds a {type(loaded).__name__}, expected a dictionary of named tensors")
    for name, value in loaded.items():
        _require_plain(file, name, value)
    _require_stored(file, loaded)
    seen: set[int] = set()
    return {name: _alone(value.detach(), seen) for name, value in loaded.items()}


def read_tensor(file: Path) -> Tensor:
    """Return the one tensor that a torch checkpoint holds. Raises InputError as `read_tensors` does."""
    loaded = _load(file)
    _require_plain(file, "it", loaded)
    _require_stored(file, {"it": loaded})
    return _alone(loaded.detach(), set())


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return name -> shape."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def require_shapes(file: Path | str, found: Shapes, expected: Shapes) -> None:
    """Refuse a file that lacks a tensor, has one too many, or one of another shape. Raises InputError naming them."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    other = [
        f"{name} is {found[name]}, expected {expected[name]}"
        for name in expected
        if name in found and tuple(found[name]) != tuple(expected[name])
    ]
    lists = {"missing": missing, "unexpected": unexpected, "of another shape": other}
    reported = [f"{len(names)} {kind} ({_some(names)})" for kind, names in lists.items() if names]
    if reported:
        raise InputError(f"{file}: weights {', '.join(reported)}; this is another model's file, or a damaged one")


def load_strictly(
    target: nn.Module | Mapping[str, Tensor],
    file: Path,
    tensors: Mapping[str, Tensor] | None = None,
    *,
    without: Sequence[str] = (),
    option: str | None = None,
) -> None:
    """Fill a module, or a state dict, in place with a file's tensors: all of them, and no other.

    `tensors` are the file's where they have been read already, and renamed. Names that begin with one of `without` are
    passed over. Raises InputError naming the file, the `option` that gave it, and the tensors that are missing,
    unexpected, of another shape or not finite.
    """
    state = target.state_dict() if isinstance(target, nn.Module) else target
    if tensors is None:
        tensors = read_tensors(file)
    found = {name: value for name, value in tensors.items() if not name.startswith(tuple(without))}
    place = str(file) if option is None else f"{option} {file}"
    require_shapes(place, shapes_of(found), shapes_of(state))
    require_finite(place, found.items())
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(found[name])


def require_fit(
    config: Path,
    file: Path,
    build: Callable[[], nn.Module | Mapping[str, Tensor]],
    *,
    without: Sequence[str] = (),
) -> None:
    """Refuse a configuration that does not describe a file's tensors, before memory is taken for its network.

    `build` returns the network, or its state dict; it is called on torch's meta device. Names that begin with one of
    `without` are passed over. Raises InputError.
    """
    found = shapes_of(read_tensors(file))
    require_depth(config, len(found))
    with describing(config):
        built = build()
    expected = shapes_of(built.state_dict() if isinstance(built, nn.Module) else built)
    require_shapes(
        file, {name: shape for name, shape in found.items() if not name.startswith(tuple(without))}, expected
    )


def weight_files(folder: Path, stems: Sequence[str]) -> list[Path]:
    """Return the weight files of a transformers or diffusers folder, safetensors first, whole or in numbered shards.

    Raises InputError when there are none, or an index names files that are not there.
    """
    for stem, suffix in ((stem, suffix) for suffix in ("safetensors", "bin") for stem in stems):
        whole, index = folder / f"{stem}.{suffix}", folder / f"{stem}.{suffix}.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            content = read_json(index)
            listed = content.get("weight_map") if isinstance(content, dict) else None
            if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
                raise InputError(f"{index}: no weight_map in it, expected tensor names and files")
            files = [folder / name for name in sorted(set(listed.values()))]
            for file in files:
                if file.parent != folder or not file.is_file():
                    raise InputError(f"{index}: names {file.name}, which is not in {folder}; the folder is incomplete")
            return files
    wanted = ", ".join(f"{stem}.safetensors or .bin" for stem in stems)
    raise InputError(f"{folder}: no weights here, expected {wanted} (or shards with their index)")


def folder_shapes(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """Return name -> shape over all files of a folder. Raises InputError when a name stands in two of them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        own = shapes_of(read_tensors(file))
        twice = own.keys() & shapes.keys()
        if twice:
            raise InputError(f"{file}: {min(twice)} stands in another shard too; the folder holds two models")
        shapes.update(own)
    return shapes


def copy_weights(
    files: Sequence[Path],
    folder: Path,
    stem: str,
    *,
    suffix: str = "safetensors",
    rename: Callable[[str], str] = lambda name: name,
    keep: Callable[[str], bool] = lambda name: True,
) -> None:
    """Write weight files again, one at a time, under the names a library expects; shards keep their division.

    `suffix` bin writes torch checkpoints, for code that reads nothing else. Tensors `keep` refuses are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    placed: dict[str, str] = {}
    size = 0
    for number, file in enumerate(files, 1):
        name = f"{stem}.{suffix}" if len(files) == 1 else f"{stem}-{number:05d}-of-{len(files):05d}.{suffix}"
        tensors = {rename(old): value for old, value in read_tensors(file).items() if keep(old)}
        require_finite(file, tensors.items())
        write = save_tensors if suffix == "safetensors" else torch.save
        write(tensors, folder / name)
        placed |= dict.fromkeys(tensors, name)
        size += sum(value.nbytes for value in tensors.values())
        del tensors  # before the next file is mapped
    if len(files) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(placed.items()))}
        write_json(folder / f"{stem}.{suffix}.index.json", index)


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors as safetensors, under the metadata that transformers and diffusers expect."""
    save_file({name: value.contiguous() for name, value in tensors.items()}, file, metadata={"format": "pt"})


def _load(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what can't be read raises
            return _torch_load(file)
    except FileNotFoundError:
        # safetensors says so of a file that it may not read, too.
        found = "can't be read (Permission denied)" if file.exists() else "file not found"
        raise InputError(f"{file}: {found}") from None
    except PermissionError:
        raise InputError(f"{file}: can't be read (Permission denied)") from None
    except SafetensorError as error:
        raise InputError(f"{file}: not a whole safetensors file ({error}); copy it again") from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{file}: {_refusal(str(error))}") from None
    # The readers below torch.load raise many kinds on broken content (EOFError, RuntimeError, KeyError, OSError ...).
    except Exception as error:  # noqa: BLE001
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        size = file.stat().st_size if file.is_file() else 0
        raise InputError(
            f"{file}: not a whole torch checkpoint ({reason}; {size} bytes); it is cut short or of another kind, "
            "copy it again"
        ) from None


def _torch_load(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if not str(error).startswith("mmap can only be used"):
            raise
    return torch.load(file, map_location="cpu", weights_only=True)  # the format before torch 1.6


def _refusal(message: str) -> str:
    named = re.search(r"GLOBAL ([\w.]+)", message)
    if named:
        return f"asks to run {named.group(1)}, expected plain tensors; refused, and nothing of it was run"
    reason = re.search(r"WeightsUnpickler error:\s*([^\n]+)", message)
    reported = reason.group(1).strip() if reason else " ".join(message.split())[:80]
    return f"not a checkpoint of plain tensors ({reported}); refused, and nothing of it was run"


def _require_plain(file: Path, name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise InputError(f"{file}: {name} is a {type(value).__name__}, expected a tensor")
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        raise InputError(f"{file}: {name} is a {value.layout} tensor on {value.device}, expected a dense one")


def _require_stored(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that claim more than the file holds: a stride of 0 makes a few bytes a terabyte."""
    claimed, size = sum(value.numel() * value.element_size() for value in tensors.values()), file.stat().st_size
    if claimed > 2 * size:  # twice: tied tables are stored once
        raise InputError(f"{file}: its tensors claim {claimed} bytes of {size}; the file is truncated or malformed")


def _alone(value: Tensor, seen: set[int]) -> Tensor:
    """Return a contiguous tensor with memory of its own: safetensors keeps no views."""
    address = value.untyped_storage().data_ptr()
    if not value.is_contiguous() or (address in seen and value.numel()):
        return value.clone(memory_format=torch.contiguous_format)
    seen.add(address)
    return value


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

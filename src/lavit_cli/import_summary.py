"""Summary of `lavit import-checkpoint` as text: each part with its geometry, what is left out, the next command."""

from pathlib import Path
from typing import Any

from lavit_core.command import word


def lines(summary: dict[str, Any], model: Path, *, dry_run: bool = False) -> str:
    """Return the summary as text, with the next command."""
    rows = []
    for name, part in summary["parts"].items():
        rows.append(f"{name}: {_geometry(name, part)}")
    rows += [f"left out: {path} ({why})" for path, why in summary["left_out"].items()]
    if dry_run:
        rows.append(f"nothing was written; without --dry-run it goes to {model}")
    elif "tokenizer" in summary["parts"]:
        rows.append(f"in {model}; next: lavit tokenize-images DATA --model {word(model)} --out TOKENS")
    elif "encoder" in summary["parts"]:
        rows.append(f"in {model}; next: lavit train-tokenizer DATA --model {word(model)} --out RUN")
    else:
        rows.append(f"in {model}; next: lavit pretrain TOKENS --model TOKENIZER --llm {word(model / 'llm')} --out RUN")
    return "\n".join(rows)


def _geometry(name: str, part: dict[str, Any]) -> str:
    if name in ("encoder", "tokenizer"):
        encoder = part["encoder"] if name == "tokenizer" else part
        text = (
            f"encoder of {encoder['layers']} layers, width {encoder['width']}, {encoder['heads']} heads, "
            f"{encoder['side']} x {encoder['side']} patches of {encoder['patch_px']} px"
        )
        if name == "encoder":
            return text
        attention = "dense" if part["released_softmax"] else "packed"
        decoder = f"decoder of {part['decoder_layers']}" if part["decoder_layers"] else "no feature decoder"
        return (
            f"{text}; merger of {part['merger_layers']} layers, {part['heads']} heads, {attention} attention; "
            f"{part['codebook_size']} codes of {part['code_dim']}; {decoder}"
        )
    if name == "llm":
        if not part["shards"]:
            return f"merger and projector alone (images as {part['image_input']}), no language model"
        if part["ids"] is None:
            return f"{part['shards']} shard(s), as a plain transformers folder: no tokenizer here to number its codes"
        return f"{part['shards']} shard(s), {part['ids']['text_vocab']} text ids, images as {part['image_input']}"
    drawn = f"draws {part['image_px']} px" if part["drawable"] else "condition alone, no UNet and VAE"
    return f"{drawn}, attends to width {sum(part['condition']['cross_dims'])}"

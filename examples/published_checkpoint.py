"""Random weights in the released layout: every file by the names and shapes that `lavit import-checkpoint` expects.

Used by published_rehearsal.py. A file is written at a time, so that the largest of them (a third of the language
model, or SDXL's UNet: 5 GB each) is all that has to fit in memory.
"""

import io
import json
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

FILES = {
    "encoder": "visual_tokenizer/eva_vitg_psz14.bin",
    "tokenizer": "visual_tokenizer/tokenizer_encoder.bin",
    "decoder": "visual_tokenizer/tokenizer_decoder.bin",
    "highres": "visual_tokenizer/highres_tokenizer_decoder.bin",
    "visual": "language_model/visual_weight.bin",
}
FOLDERS = {"llm": "language_model", "sd15": "pixel_decoding", "sdxl": "highres_pixel_decoding"}
PUBLISHED = {
    "width": 1408, "encoder_layers": 40, "layers": 12, "heads": 16, "mlp": 6144, "side": 16, "codes": 16384,
    "hidden": 4096, "llm_layers": 32, "llm_heads": 32, "llm_mlp": 11008, "text_vocab": 32000, "unet": 1,
}  # fmt: skip
MINIATURE = {
    "width": 64, "encoder_layers": 2, "layers": 2, "heads": 4, "mlp": 128, "side": 4, "codes": 256,
    "hidden": 64, "llm_layers": 2, "llm_heads": 4, "llm_mlp": 96, "text_vocab": 320, "unet": 0,
}  # fmt: skip
"""`unet`: 1 is the published shape, 0 two narrow levels."""

LOW_WIDTH, HIGH_WIDTHS = 768, (768, 1280)
"""Widths that the UNets attend to; the same in the miniature."""
LLM_SHARDS = 3
BLOCK = 1_048_573
"""Normal draws that a tensor repeats. A prime: no two rows of a matrix are the same, and its rank stays full."""


def write_part(checkpoint: Path, part: str, sizes: dict[str, int], dtype: str) -> None:
    """Write the files of one part."""
    kind = getattr(torch, dtype)
    if part in FILES:
        save(checkpoint / FILES[part], visual_shapes(part, sizes), kind)
    elif part == "llm":
        write_language_model(checkpoint / FOLDERS[part], sizes, kind)
    else:
        write_pixels(checkpoint / FOLDERS[part], part, sizes, kind)


def visual_shapes(part: str, sizes: dict[str, int]) -> Shapes:
    """Return names and shapes of one file of the visual side."""
    from lavit_tokenizer.config import TokenizerConfig
    from lavit_tokenizer.released import decoder_shapes, merger_shapes, tokenizer_shapes
    from lavit_tokenizer.released_encoder import EncoderShape, released_shapes

    side, width = sizes["side"], sizes["width"]
    encoder = EncoderShape(
        width=width, layers=sizes["encoder_layers"], heads=sizes["heads"], mlp_dim=sizes["mlp"], patch_px=14, side=side,
        head_dim=1024,
    )  # fmt: skip
    config = TokenizerConfig(
        preprocessing=encoder.preprocessing, grid=(side, side), feature_dim=width, merger_layers=sizes["layers"],
        heads=sizes["heads"], mlp_dim=sizes["mlp"], codebook_size=sizes["codes"], decoder_layers=sizes["layers"],
    )  # fmt: skip
    if part == "encoder":
        return released_shapes(encoder)
    if part == "tokenizer":
        return tokenizer_shapes(config)
    if part == "visual":
        merger = {f"causal_encoder.{name}": shape for name, shape in merger_shapes(config).items()}
        return merger | linear("vit_proj", sizes["hidden"], width)
    if part == "decoder":
        return decoder_shapes(config) | linear("unet_proj", LOW_WIDTH, width)
    shapes = decoder_shapes(config) | {"unet_attnpool.positional_embedding": (side * side + 1, width)}
    for number, out in enumerate(HIGH_WIDTHS, 1):
        shapes |= linear(f"unet_proj_{number}", out, width)
    for name in ("q_proj", "k_proj", "v_proj"):
        shapes |= linear(f"unet_attnpool.{name}", width, width)
    return shapes | linear("unet_attnpool.c_proj", HIGH_WIDTHS[1], width)


def linear(name: str, out: int, into: int) -> Shapes:
    """Return weight and bias of a linear layer."""
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def write_language_model(folder: Path, sizes: dict[str, int], dtype: torch.dtype) -> None:
    """Write a LLaMA in three shards with their index, and a sentencepiece tokenizer of the size it has."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=sizes["text_vocab"] + 2 + sizes["codes"], hidden_size=sizes["hidden"],
        intermediate_size=sizes["llm_mlp"], num_hidden_layers=sizes["llm_layers"],
        num_attention_heads=sizes["llm_heads"], num_key_value_heads=sizes["llm_heads"], bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.device("meta"):
        llm = LlamaForCausalLM(config)
    shapes = {name: tuple(value.shape) for name, value in llm.state_dict().items()}
    write_text_tokenizer(folder, sizes["text_vocab"])
    about = {
        **config.to_dict(),
        "architectures": ["LlamaForCausalLM"],
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    (folder / "config.json").write_text(json.dumps(about))
    room, placed = sum(map(numel, shapes.values())) / LLM_SHARDS, {}
    shards: list[Shapes] = [{}]
    for name, shape in shapes.items():
        if sum(map(numel, shards[-1].values())) >= room:
            shards.append({})
        shards[-1][name] = shape
    for number, own in enumerate(shards, 1):
        file = f"pytorch_model-{number:05d}-of-{len(shards):05d}.bin"
        save(folder / file, own, dtype)
        placed |= dict.fromkeys(own, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))


def write_text_tokenizer(folder: Path, size: int) -> None:
    """Write a sentencepiece tokenizer as LLaMA has it, filled up with words that nobody writes."""
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    model = io.BytesIO()
    words = [f"a {colour} {thing}" for colour in ("red", "green", "blue") for thing in ("boat", "house", "tree")]
    SentencePieceTrainer.train(
        sentence_iterator=iter(words * 3), model_writer=model, vocab_size=290, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    trained = SentencePieceProcessor(model_proto=model.getvalue()).get_piece_size()
    folder.mkdir(parents=True, exist_ok=True)
    # Messages of protocol buffers may be appended to: the pieces of both are in the list.
    filler = b"".join(piece(f"▁word{number}", -float(number)) for number in range(trained, size))
    (folder / "tokenizer.model").write_bytes(model.getvalue() + filler)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    about = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def piece(text: str, score: float) -> bytes:
    """Return a sentencepiece piece as field 1 of a model (sentencepiece_model.proto: piece 1, score 2)."""
    content = text.encode()
    inner = b"\x0a" + bytes([len(content)]) + content + b"\x15" + struct.pack("<f", score)
    return b"\x0a" + bytes([len(inner)]) + inner


def write_pixels(folder: Path, part: str, sizes: dict[str, int], dtype: torch.dtype) -> None:
    """Write UNet, VAE and scheduler of Stable Diffusion 1.5 or SDXL."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from lavit_detokenizer.config import NoiseShape
    from lavit_detokenizer.noise import build_scheduler

    with torch.device("meta"):
        networks: dict[str, Any] = {
            "unet": UNet2DConditionModel(**unet_arguments(part, sizes)),
            "vae": AutoencoderKL(**vae_arguments(part, sizes)),
        }
    for name, network in networks.items():
        network.save_config(folder / name)
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        # VAEs are published in float32.
        save(folder / name / "diffusion_pytorch_model.bin", shapes, dtype if name == "unet" else torch.float32)
    build_scheduler(NoiseShape()).save_pretrained(folder / "scheduler")
    if part == "sd15":
        torch.save(fill((1, 77, LOW_WIDTH), 1.0, dtype), folder / "uncond_embeddings.bin")


def unet_arguments(part: str, sizes: dict[str, int]) -> dict[str, Any]:
    """Return what makes the UNet: the shape of the `published` presets, or two narrow levels."""
    from lavit_core.config import load_preset, resolve
    from lavit_detokenizer.config import DetokenizerConfig, TrainDetokenizerConfig, UNetShape
    from lavit_detokenizer.unet import unet_arguments

    name = "published" if part == "sd15" else "published-sdxl"
    preset = resolve(
        TrainDetokenizerConfig, preset=load_preset("lavit_detokenizer", "train-detokenizer", name), flags={}
    )
    shape, side = preset.unet, preset.image_px // 8
    if not sizes["unet"]:
        side = 8
        shape = UNetShape(
            block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
    about = DetokenizerConfig(image_px=preset.image_px, condition=preset.condition, feature_dim=sizes["width"])
    return unet_arguments(about, shape, (4, side, side))


def vae_arguments(part: str, sizes: dict[str, int]) -> dict[str, Any]:
    """Return what makes the VAE."""
    channels = (128, 256, 512, 512) if sizes["unet"] else (8, 8)
    return {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "layers_per_block": 2 if sizes["unet"] else 1,
        "norm_num_groups": 32 if sizes["unet"] else 4,
        "latent_channels": 4,
        "scaling_factor": 0.18215 if part == "sd15" else 0.13025,
    }


def save(file: Path, shapes: Shapes, dtype: torch.dtype) -> None:
    """Write random weights that keep activations near 1 as a torch checkpoint."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: fill(shape, scale(name, shape), dtype, name) for name, shape in shapes.items()}, file)


def scale(name: str, shape: tuple[int, ...]) -> float:
    """Return the deviation of a weight, 1 / sqrt(inputs) for matrices and convolutions."""
    if len(shape) < 2:
        return 0.1
    return 0.3 if "embed" in name else float((numel(shape) / shape[0]) ** -0.5)


def fill(shape: tuple[int, ...], deviation: float, dtype: torch.dtype, name: str = "") -> Tensor:
    """Return a seeded tensor: normal draws, the same block again and again; weights of norms lie around 1."""
    draws = torch.randn(min(BLOCK, numel(shape)), generator=torch.Generator().manual_seed(numel(shape))) * deviation
    if len(shape) == 1 and name.endswith("weight"):
        draws += 1
    return draws.to(dtype).repeat(-(-numel(shape) // BLOCK))[: numel(shape)].clone().view(shape)


def numel(shape: tuple[int, ...]) -> int:
    """Return the number of entries."""
    return int(torch.Size(shape).numel())

"""A miniature checkpoint in the released folder layout: seeded weights, every file kind, any geometry."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from sentencepiece import SentencePieceTrainer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

TEXT_VOCAB = 290


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geometry:
    """Sizes of a miniature; all different, so that no two can be mistaken for each other."""

    side: int = 3
    patch: int = 8
    width: int = 24
    encoder_heads: int = 3
    encoder_layers: int = 2
    encoder_mlp: int = 40
    heads: int = 4
    merger_layers: int = 2
    mlp: int = 52
    codes: int = 37
    code_dim: int = 5
    low_layers: int = 1
    high_layers: int = 2
    decoded: int = 32
    low_width: int = 12
    high_widths: tuple[int, int] = (12, 20)
    hidden: int = 16
    dtype: torch.dtype = torch.float32

    @property
    def patches(self) -> int:
        """P."""
        return self.side**2


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norms(width: int, *names: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{kind}": (width,) for name in names for kind in ("weight", "bias")}


def encoder_shapes(g: Geometry) -> dict[str, tuple[int, ...]]:
    d = g.width
    shapes = {"cls_token": (1, 1, d), "pos_embed": (1, g.patches + 1, d)}
    shapes |= {"patch_embed.proj.weight": (d, 3, g.patch, g.patch), "patch_embed.proj.bias": (d,)}
    for i in range(g.encoder_layers):
        at = f"blocks.{i}"
        shapes |= {f"{at}.attn.q_bias": (d,), f"{at}.attn.v_bias": (d,), f"{at}.attn.qkv.weight": (3 * d, d)}
        shapes |= linear(f"{at}.attn.proj", d, d) | norms(d, f"{at}.norm1", f"{at}.norm2")
        shapes |= linear(f"{at}.mlp.fc1", g.encoder_mlp, d) | linear(f"{at}.mlp.fc2", d, g.encoder_mlp)
    return shapes | norms(d, "norm") | linear("head", 7, d)


def block_shapes(g: Geometry, at: str, self_attn: str, cross_attn: str) -> dict[str, tuple[int, ...]]:
    d = g.width
    shapes = norms(d, f"{at}.norm0", f"{at}.norm1", f"{at}.norm2")
    shapes |= linear(f"{at}.{self_attn}.qkv", 3 * d, d) | linear(f"{at}.{self_attn}.proj", d, d)
    for name in ("query", "key", "value", "proj"):
        shapes |= linear(f"{at}.{cross_attn}.{name}", d, d)
    return shapes | linear(f"{at}.mlp.fc1", g.mlp, d) | linear(f"{at}.mlp.fc2", d, g.mlp)


def merger_shapes(g: Geometry) -> dict[str, tuple[int, ...]]:
    shapes = norms(g.width, "causal_encoder.ln_vision", "causal_encoder.norm")
    for i in range(g.merger_layers):
        shapes |= block_shapes(g, f"causal_encoder.blocks.{i}", "token_causal_attn", "token_cross_attn")
    return shapes


def tokenizer_shapes(g: Geometry) -> dict[str, tuple[int, ...]]:
    d = g.width
    shapes = norms(d, "token_predictor.in_conv.0") | linear("token_predictor.in_conv.1", d, d)
    for layer, (out, into) in {0: (d // 2, d), 2: (d // 4, d // 2), 4: (2, d // 4)}.items():
        shapes |= linear(f"token_predictor.out_conv.{layer}", out, into)
    shapes |= merger_shapes(g) | {"quantize.embedding.weight": (g.codes, g.code_dim)}
    return shapes | linear("encode_task_layer.0", d, d) | linear("encode_task_layer.2", g.code_dim, d)


def decoder_shapes(g: Geometry, layers: int) -> dict[str, tuple[int, ...]]:
    d = g.width
    shapes = {"pos_embed": (1, g.patches, d), "query_embed": (1, g.patches, d)} | linear("in_proj", d, g.code_dim)
    for i in range(layers):
        shapes |= block_shapes(g, f"blocks.{i}", "self_attn", "cross_attn")
    return shapes | norms(d, "norm") | linear("decode_task_layer.0", d, d) | linear("decode_task_layer.2", g.decoded, d)


def highres_shapes(g: Geometry) -> dict[str, tuple[int, ...]]:
    f, shapes = g.decoded, decoder_shapes(g, g.high_layers)
    for i, width in enumerate(g.high_widths, 1):
        shapes |= linear(f"unet_proj_{i}", width, f)
    shapes |= {"unet_attnpool.positional_embedding": (g.patches + 1, f)}
    for name in "qkv":
        shapes |= linear(f"unet_attnpool.{name}_proj", f, f)
    return shapes | linear("unet_attnpool.c_proj", g.high_widths[1], f)


def released_files(g: Geometry) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return names and shapes of every torch file of the visual side."""
    return {
        "visual_tokenizer/eva_vitg_psz14.bin": encoder_shapes(g),
        "visual_tokenizer/tokenizer_encoder.bin": tokenizer_shapes(g),
        "visual_tokenizer/tokenizer_decoder.bin": decoder_shapes(g, g.low_layers)
        | linear("unet_proj", g.low_width, g.decoded),
        "visual_tokenizer/highres_tokenizer_decoder.bin": highres_shapes(g),
        "language_model/visual_weight.bin": merger_shapes(g) | linear("vit_proj", g.hidden, g.width),
    }


def draw_weights(shapes: dict[str, tuple[int, ...]], stream: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return random weights that keep activations near 1."""
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=stream)
        is_norm = ".norm" in name or name.startswith("norm") or "ln_vision" in name or "in_conv.0" in name
        if is_norm and name.endswith("weight"):
            noise = 1 + 0.1 * noise
        elif len(shape) == 2 or len(shape) == 4:
            noise = 1.3 * noise / noise[0].numel() ** 0.5
        else:
            noise = 0.3 * noise
        tensors[name] = noise.to(dtype)
    return tensors


def write_visual(root: Path, g: Geometry, seed: int = 11) -> dict[str, dict[str, Tensor]]:
    """Write the visual files and return their tensors; at this seed every image keeps some patches, one keeps all."""
    stream = torch.Generator().manual_seed(seed)
    written = {}
    for name, shapes in released_files(g).items():
        written[name] = draw_weights(shapes, stream, g.dtype)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(written[name], root / name)
    return written


def write_images(folder: Path, g: Geometry, count: int = 6, seed: int = 0) -> Path:
    """Write PNGs of exactly the encoder's size."""
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    side = g.side * g.patch
    for index in range(count):
        small = draw.integers(0, 256, (g.side, g.side, 3), dtype=np.uint8)
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index:03d}.png")
    return folder


def write_text_tokenizer(folder: Path) -> int:
    """Write a sentencepiece tokenizer as LLaMA has it (byte fallback, no tokenizer.json); return its size."""
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    words = [f"a {colour} {shape}" for colour in ("red", "green", "blue") for shape in ("circle", "square", "cross")]
    SentencePieceTrainer.train(
        sentence_iterator=iter(words * 3), model_writer=model, vocab_size=TEXT_VOCAB, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    about = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return TEXT_VOCAB


def write_language_model(root: Path, g: Geometry) -> None:
    """Write a LLaMA of two shards, as torch checkpoints with their index, and its text tokenizer."""
    folder = root / "language_model"
    text_vocab = write_text_tokenizer(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": g.hidden, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    llm = LlamaForCausalLM(LlamaConfig(vocab_size=text_vocab + 2 + g.codes, **shape)).to(torch.bfloat16)
    about = {
        # As transformers 4.33 wrote it.
        "_name_or_path": "somewhere", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 2048, "model_type": "llama",
        "num_key_value_heads": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-06, "rope_scaling": None,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.33.2", "use_cache": True,
        "vocab_size": text_vocab + 2 + g.codes, **shape,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(about))
    names = sorted(llm.state_dict())
    placed = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-{number:05d}-of-00002.bin"
        tensors = {name: llm.state_dict()[name].clone() for name in part}
        tensors[f"model.layers.{number - 1}.self_attn.rotary_emb.inv_freq"] = torch.ones(
            4
        )  # old transformers stored it
        torch.save(tensors, folder / file)
        placed |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))


def write_pixels(root: Path, g: Geometry) -> None:
    """Write both pixel decoders: UNet, VAE (with names of an old diffusers), scheduler, null embedding."""
    torch.manual_seed(0)
    small = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1, "sample_size": 8}
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
    }
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": g.high_widths[1] + 6 * 256,
    }
    for name, width, more in (
        ("pixel_decoding", g.low_width, {}),
        ("highres_pixel_decoding", sum(g.high_widths), added),
    ):
        unet = UNet2DConditionModel(cross_attention_dim=width, **small, **blocks, **more)
        unet.save_pretrained(root / name / "unet", safe_serialization=False)
        vae = AutoencoderKL(
            block_out_channels=(8, 8), norm_num_groups=4, sample_size=16,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )  # fmt: skip
        vae.save_pretrained(root / name / "vae", safe_serialization=False)
        file = root / name / "vae" / "diffusion_pytorch_model.bin"
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        tensors = torch.load(file, weights_only=True)
        for today, then in old.items():
            tensors = {key.replace(f"attentions.0.{today}.", f"attentions.0.{then}."): t for key, t in tensors.items()}
        torch.save(tensors, file)
        DDIMScheduler(beta_schedule="scaled_linear").save_pretrained(root / name / "scheduler")
    torch.save(torch.randn(1, 4, g.low_width), root / "pixel_decoding" / "uncond_embeddings.bin")
    (root / "pixel_decoding" / "safety_checker").mkdir()

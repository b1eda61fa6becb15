"""import-checkpoint and export-checkpoint on miniatures in the released layout, held against the formulation itself."""

import dataclasses
import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import released_reference as reference
import torch
from lavit_core.images import square_pixels
from lavit_core.tokens import open_tokens
from lavit_detokenizer.api import DrawSettings, draw, load_conditioner, load_detokenizer
from lavit_pretrain.api import SampleSettings, encode_images, load_llm, load_visual_input, sample_codes
from lavit_pretrain.config import LlmShape
from lavit_pretrain.language_model import build_llm
from lavit_tokenizer.api import load_tokenizer
from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.released import decoder_shapes, merger_shapes, tokenizer_shapes
from lavit_tokenizer.released_encoder import EncoderShape, released_shapes
from lavit_trainkit.pixels import normalise
from released_folder import Geometry, write_images, write_language_model, write_pixels, write_visual
from safetensors import safe_open
from safetensors.torch import load_file
from sentencepiece import SentencePieceProcessor

from lavit_cli.export_checkpoint import export_checkpoint
from lavit_cli.import_checkpoint import import_checkpoint

WIDE = Geometry(side=4, patch=6, width=36, encoder_heads=6, heads=9, merger_layers=3, codes=90, code_dim=7, decoded=36)
HALF = Geometry(dtype=torch.bfloat16)


def heads(g: Geometry) -> dict[str, int]:
    return {"encoder_heads": g.encoder_heads, "heads": g.heads}


def flags(g: Geometry) -> list[str]:
    return ["--encoder-heads", str(g.encoder_heads), "--heads", str(g.heads)]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """fp32 in another order of sums; measured below 2e-6."""
    return float((found.float() - expected.float()).norm() / expected.float().norm()) < 1e-5


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors: threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole released folder of the default miniature and the model imported from it."""
    root = tmp_path_factory.mktemp("whole")
    write_visual(root / "released", Geometry())
    write_language_model(root / "released", Geometry())
    write_pixels(root / "released", Geometry())
    write_images(root / "images", Geometry())
    summary = import_checkpoint(root / "released", root / "model", **heads(Geometry()), quiet=True)
    (root / "summary.json").write_text(json.dumps(summary))
    return root


@pytest.mark.parametrize("g", [Geometry(), WIDE, HALF], ids=["small", "wide", "bfloat16"])
def test_imported_weights_agree_with_the_published_formulation(g, tmp_path):
    written = write_visual(tmp_path / "released", g)
    images = sorted(write_images(tmp_path / "images", g).iterdir())
    import_checkpoint(tmp_path / "released", tmp_path / "model", **heads(g), quiet=True)
    w = {file: {name: value.float() for name, value in tensors.items()} for file, tensors in written.items()}
    eva, own, low, high, stage2 = w.values()
    tokenizer = load_tokenizer(tmp_path / "model", device="cpu")
    pixels = torch.from_numpy(np.stack([square_pixels(file, g.side * g.patch) for file in images]))

    x = reference.encode(eva, normalise(pixels, tokenizer.config.preprocessing), g.encoder_heads)
    mask = reference.keep(own, x)
    assert 0 < mask.mean() < 1
    counts, kept = mask.sum(1).long(), mask.bool()
    assert counts.min() > 0
    merged = reference.merge(own, x, mask, g.heads)[kept]
    codes = reference.quantise(own, merged)
    assert close(tokenizer.features(pixels), x)
    encoded = tokenizer.encode(pixels)
    assert torch.equal(encoded.keep_mask, kept)
    assert close(encoded.merged, merged)
    assert torch.equal(encoded.codes, codes)

    rows = reference.linear(stage2, "vit_proj", reference.merge(stage2, x, mask, g.heads)[kept])
    assert close(load_visual_input(tmp_path / "model", tokenizer)(x, kept), rows)

    vectors = own["quantize.embedding.weight"][codes]
    decoded = reference.decode(low, vectors, counts, g.heads)
    prompt = load_conditioner(tmp_path / "model", device="cpu").prompt(tokenizer, codes, counts)
    assert close(prompt.sequence_BLW, reference.linear(low, "unet_proj", decoded))
    decoded = reference.decode(high, vectors, counts, g.heads)
    prompt = load_conditioner(tmp_path / "model", part="detokenizer-highres", device="cpu").prompt(
        tokenizer, codes, counts
    )
    both = [reference.linear(high, f"unet_proj_{i}", decoded) for i in (1, 2)]
    assert close(prompt.sequence_BLW, torch.cat(both, dim=-1))
    assert prompt.pooled_BE is not None
    assert close(prompt.pooled_BE, reference.pool(high, decoded, g.heads))


def test_attention_modes_differ_where_a_closed_key_stands_out(tmp_path):
    """Larger weights, sharper attention: dense, closed keys get weight; packed, none."""
    g = Geometry()
    written = write_visual(tmp_path / "released", g)
    file = "visual_tokenizer/tokenizer_encoder.bin"
    sharp = {
        name: value * 4 if "attn.q" in name or "attn.k" in name else value for name, value in written[file].items()
    }
    torch.save(sharp, tmp_path / "released" / file)
    pixels = torch.from_numpy(np.stack([
        square_pixels(path, g.side * g.patch) for path in sorted(write_images(tmp_path / "images", g).iterdir())
    ]))  # fmt: skip
    merged = {}
    for attention in ("dense", "packed"):
        import_checkpoint(
            tmp_path / "released", tmp_path / f"model-{attention}", **heads(g), attention=attention, quiet=True
        )
        tokenizer = load_tokenizer(tmp_path / f"model-{attention}", device="cpu")
        assert tokenizer.config.released_softmax == (attention == "dense")
        merged[attention] = tokenizer.encode(pixels)
    normal = normalise(pixels, tokenizer.config.preprocessing)
    x = reference.encode(written["visual_tokenizer/eva_vitg_psz14.bin"], normal, g.encoder_heads)
    mask = reference.keep(sharp, x)
    expected = reference.merge(sharp, x, mask, g.heads)[mask.bool()]
    assert torch.equal(merged["dense"].keep_mask, merged["packed"].keep_mask)
    assert close(merged["dense"].merged, expected)
    assert not torch.allclose(merged["packed"].merged, expected, atol=1e-2)


def test_import_export_import_gives_the_same_bytes(whole, tmp_path):
    export_checkpoint(whole / "model", tmp_path / "released", quiet=True)
    import_checkpoint(tmp_path / "released", tmp_path / "model", **heads(Geometry()), quiet=True)
    first, second = digests(whole / "model"), digests(tmp_path / "model")
    assert sum(name.endswith(".safetensors") for name in first) == 13
    assert first == second


def test_export_restores_the_released_tensors(whole, tmp_path):
    export_checkpoint(whole / "model", tmp_path / "released", quiet=True)
    for file in sorted((whole / "released").rglob("*.bin")):
        name = file.relative_to(whole / "released")
        before = torch.load(file, weights_only=True)
        after = torch.load(tmp_path / "released" / name, weights_only=True)
        if isinstance(before, torch.Tensor):
            assert torch.equal(before, after), name
            continue
        before = {key: value for key, value in before.items() if not key.endswith("inv_freq")}
        if "vae" in name.parts:
            assert len(before) == len(after), name  # attention has today's names
            continue
        assert before.keys() == after.keys(), name
        assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)
    here, there = (root / "released" / "language_model" for root in (tmp_path, whole))
    assert json.loads((here / "config.json").read_text()) == json.loads((there / "config.json").read_text())
    for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert not (here / "tokenizer.json").exists()


def test_the_text_tokenizer_gives_the_ids_of_sentencepiece(whole):
    pieces = SentencePieceProcessor(model_file=str(whole / "released" / "language_model" / "tokenizer.model"))
    llm = load_llm(whole / "model", device="cpu")
    assert llm.vocabulary.text_vocab == pieces.get_piece_size()
    for text in ("a red circle", "Question: what shape is zébra-striped? Answer:", "[IMG] is text here"):
        assert llm.codec.encode(text).tolist() == pieces.encode(text)
        assert llm.codec.decode(pieces.encode(text)) == text


def test_every_part_of_a_whole_checkpoint_works(whole):
    model = whole / "model"
    summary = json.loads((whole / "summary.json").read_text())
    assert set(summary["parts"]) == {"tokenizer", "llm", "detokenizer", "detokenizer-highres"}
    assert list(summary["left_out"]) == ["pixel_decoding/safety_checker"]
    tokenizer, llm = load_tokenizer(model, device="cpu"), load_llm(model, device="cpu")
    assert llm.image_input == "live"
    assert llm.vocabulary.total == llm.head_VD.shape[0]
    assert llm.text.convert_tokens_to_ids(["[IMG]", "[/IMG]"]) == [llm.vocabulary.img, llm.vocabulary.end_img]
    pixels = torch.from_numpy(np.stack([square_pixels(file, 24) for file in sorted((whole / "images").iterdir())]))
    shown = encode_images(llm, tokenizer, pixels)
    own = load_visual_input(model, tokenizer)
    features_BPD, keep_BP = tokenizer.select(pixels)
    assert close(torch.from_numpy(shown.features), own.merger(features_BPD, keep_BP))
    # The language model is stored in bfloat16 and used so; its merger, and the UNets, are stored in float32.
    assert (llm.precision, next(llm.merger.parameters()).dtype) == ("bf16", torch.float32)
    assert load_detokenizer(model, device="cpu").precision == "fp32"
    wide = load_llm(model, device="cpu", precision="fp32")
    assert wide.precision == "fp32"
    half = encode_images(wide, tokenizer, pixels)
    assert np.array_equal(half.features, shown.features)
    assert half.features.shape == shown.features.shape
    drawn = sample_codes(llm, ["a red circle"], seeds=[0], settings=SampleSettings(min_codes=3, max_codes=5))
    assert 3 <= len(drawn[0]) <= 5
    for part, px in (("detokenizer", 16), ("detokenizer-highres", 16)):
        detokenizer = load_detokenizer(model, part=part, device="cpu")
        encoded = tokenizer.encode(pixels[:2])
        condition = tokenizer.decode_codes(encoded.codes, encoded.counts, decoder=detokenizer.decoder)
        images = draw(detokenizer, condition, seeds=[0, 1], settings=DrawSettings(num_steps=2))
        assert images.shape == (2, px, px, 3)
    for file in model.rglob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            assert opened.keys()
    assert not list(model.rglob("*.bin"))


def test_the_command_line_from_weights_to_tokens(whole, tmp_path, here):
    g = Geometry()
    done = here("import-checkpoint", whole / "released", "--out", tmp_path / "model", *flags(g))
    assert done.code == 0, done.err
    assert "left out: pixel_decoding/safety_checker" in done.out
    assert f"next: lavit tokenize-images DATA --model {tmp_path / 'model'} --out TOKENS" in done.out
    done = here("tokenize-images", whole / "images", "--model", tmp_path / "model", "--out", tmp_path / "tokens",
                "--device", "cpu", "--quiet", "--set", "workers=0")  # fmt: skip
    assert done.code == 0, done.err
    tokenizer = load_tokenizer(whole / "model", device="cpu")
    pixels = torch.from_numpy(np.stack([square_pixels(file, 24) for file in sorted((whole / "images").iterdir())]))
    codes, _ = open_tokens(tmp_path / "tokens").codes(np.arange(len(pixels)))
    assert codes.tolist() == tokenizer.encode(pixels).codes.tolist()
    again = here("import-checkpoint", whole / "released", "--out", tmp_path / "model", *flags(g))
    assert again.code == 3
    assert "is there already" in again.last_error
    done = here("export-checkpoint", tmp_path / "model", "--out", tmp_path / "back", "--json")
    assert done.code == 0, done.err
    assert "visual_tokenizer/eva_vitg_psz14.bin" in json.loads(done.out)["files"]


@pytest.mark.parametrize("highres", [False, True])
def test_commands_draw_with_either_detokenizer(highres, whole, tmp_path, here):
    model, image = whole / "model", next((whole / "images").iterdir())
    more = ["--device", "cpu", "--num-steps", "2", *(["--highres"] if highres else [])]
    done = here("generate", "a red circle", "--model", model, "--out", tmp_path / "drawn.png", "--json",
                "--preset", "tiny", *more)  # fmt: skip
    assert done.code == 0, done.err
    assert ("detokenizer-highres" in json.loads(done.out)["model"]) == highres
    done = here("reconstruct", image, "--model", model, "--out", tmp_path / "back.png", "--json", *more)
    assert done.code == 0, done.err
    assert ("detokenizer-highres" in json.loads(done.out)["model"]) == highres
    done = here("tokenize-images", whole / "images", "--model", model, "--out", tmp_path / "tokens", "--quiet",
                "--set", "workers=0", "--device", "cpu")  # fmt: skip
    assert done.code == 0, done.err
    done = here("detokenize", tmp_path / "tokens", "--model", model, "--out", tmp_path / "images", *more)
    assert done.code == 0, done.err
    assert len(list((tmp_path / "images" / "images").iterdir())) == 6


PARTIAL = {
    "encoder alone": (["visual_tokenizer/eva_vitg_psz14.bin"], {"encoder"}),
    "without decoders": (
        ["visual_tokenizer/eva_vitg_psz14.bin", "visual_tokenizer/tokenizer_encoder.bin"], {"tokenizer"},
    ),
    "without the low-resolution decoder": (
        ["visual_tokenizer/eva_vitg_psz14.bin", "visual_tokenizer/tokenizer_encoder.bin",
         "visual_tokenizer/highres_tokenizer_decoder.bin", "highres_pixel_decoding"],
        {"tokenizer", "detokenizer-highres"},
    ),
    "decoders without a tokenizer": (
        ["visual_tokenizer/eva_vitg_psz14.bin", "visual_tokenizer/highres_tokenizer_decoder.bin",
         "highres_pixel_decoding"],
        {"encoder"},
    ),
    "pixels without their decoder": (
        ["visual_tokenizer/eva_vitg_psz14.bin", "visual_tokenizer/tokenizer_encoder.bin", "pixel_decoding"],
        {"tokenizer"},
    ),
    "without merger of stage 2": (
        ["visual_tokenizer/eva_vitg_psz14.bin", "visual_tokenizer/tokenizer_encoder.bin", "language_model"],
        {"tokenizer", "llm"},
    ),
    "language model alone": (["language_model"], {"llm"}),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTIAL)
def test_partial_checkpoints(name, whole, tmp_path):
    paths, parts = PARTIAL[name]
    for path in paths:
        source, target = whole / "released" / path, tmp_path / "released" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    if "language_model" in paths:
        (tmp_path / "released" / "language_model" / "visual_weight.bin").unlink()
    summary = import_checkpoint(tmp_path / "released", tmp_path / "model", **heads(Geometry()), quiet=True)
    assert set(summary["parts"]) == parts
    assert {entry.name for entry in (tmp_path / "model").iterdir()} == {*parts, "lavit.json"}
    if "pixel_decoding" in paths:
        assert "tokenizer_decoder.bin" in summary["left_out"]["pixel_decoding"]
    if parts == {"encoder"} and len(paths) > 1:
        assert set(summary["left_out"]) == {*paths[1:]}
        assert "tokenizer_encoder.bin" in summary["left_out"]["highres_pixel_decoding"]
    if parts >= {"tokenizer", "llm"}:
        assert load_llm(tmp_path / "model", device="cpu").image_input == "codes"
    if "detokenizer-highres" in parts:
        tokenizer = load_tokenizer(tmp_path / "model", device="cpu")
        conditioner = load_conditioner(tmp_path / "model", part="detokenizer-highres", device="cpu")
        codes, counts = torch.tensor([0, 1, 2]), torch.tensor([1, 2])
        assert conditioner.prompt(tokenizer, codes, counts).sequence_BLW.shape == (2, 9, 32)


def test_an_empty_folder_is_filled(whole, tmp_path):
    (tmp_path / "model").mkdir()
    import_checkpoint(whole / "released", tmp_path / "model", **heads(Geometry()), quiet=True)
    assert (tmp_path / "model" / "lavit.json").is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_training_goes_on_from_the_rows_that_were_learned(whole):
    before = load_llm(whole / "model", device="cpu")
    llm, _, layout = build_llm(LlmShape(), whole / "model" / "llm", [], Geometry().codes)
    assert layout == before.vocabulary
    assert torch.equal(llm.get_input_embeddings().weight, before.llm.get_input_embeddings().weight)
    more, _, wider = build_llm(LlmShape(), whole / "model" / "llm", [], Geometry().codes + 5)
    assert more.get_input_embeddings().weight.shape[0] == wider.total == layout.total + 5


def test_pretrain_goes_on_from_imported_weights(whole, tmp_path, here):
    """At a rate of nothing, a step gives back the merger and projector that came."""
    model, device = whole / "model", ["--device", "cpu", "--quiet"]
    done = here("tokenize-images", whole / "images", "--model", model, "--out", tmp_path / "tokens", *device)
    assert done.code == 0, done.err
    settings = ["num_steps=1", "llm_lr=0", "visual_lr=0", "warmup_steps=0", "precision=fp32", "tokens_per_step=64"]
    done = here("pretrain", tmp_path / "tokens", "--model", model, "--llm", model / "llm", "--image-input", "live",
                "--data", whole / "images", "--out", tmp_path / "run", *device,
                *(word for setting in [*settings, "mix.questions=0", "mix.text=0", "optimizer=adamw"]
                  for word in ("--set", setting)))  # fmt: skip
    assert done.code == 0, done.err
    before, after = (load_file(folder / "llm" / "visual.safetensors") for folder in (model, tmp_path / "run" / "model"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].float(), after[name].float()) for name in before)


def test_the_published_sizes_have_the_published_parameter_counts():
    """Counts that the sizes of the files on the hub give at 2 bytes a number."""
    eva = EncoderShape(width=1408, layers=40, heads=16, mlp_dim=6144, patch_px=14, side=16, head_dim=1024)
    config = TokenizerConfig()
    assert count(released_shapes(eva)) == 1_012_588_928
    assert count(tokenizer_shapes(config)) == 404_048_130
    assert count(decoder_shapes(config)) + 768 * 1409 == 404_081_792
    assert count(merger_shapes(config)) + 4096 * 1409 == 404_038_656
    pool = 257 * 1408 + 3 * 1408 * 1409 + 1280 * 1409
    assert count(decoder_shapes(config)) + (768 + 1280) * 1409 + pool == 414_002_304


def count(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def test_what_is_not_known_is_listed(whole, tmp_path):
    shutil.copytree(whole / "released", tmp_path / "released")
    torch.save({}, tmp_path / "released" / "visual_tokenizer" / "motion.bin")
    summary = import_checkpoint(tmp_path / "released", tmp_path / "x", **heads(Geometry()), dry_run=True, quiet=True)
    assert "this command knows" in summary["left_out"]["visual_tokenizer/motion.bin"]
    assert set(summary["left_out"]) == {"visual_tokenizer/motion.bin", "pixel_decoding/safety_checker"}


def test_dry_run_says_so(whole, tmp_path, here):
    done = here("import-checkpoint", whole / "released", "--out", tmp_path / "model", *flags(Geometry()), "--dry-run")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == f"nothing was written; without --dry-run it goes to {tmp_path / 'model'}"
    assert not list(tmp_path.iterdir())


def test_dry_run_writes_nothing(whole, tmp_path):
    summary = import_checkpoint(whole / "released", tmp_path / "model", **heads(Geometry()), dry_run=True, quiet=True)
    assert "tokenizer" in summary["parts"]
    assert not list(tmp_path.iterdir())


def test_own_tokenizers_of_another_form_are_not_exported(whole, tmp_path):
    shutil.copytree(whole / "model" / "tokenizer", tmp_path / "model" / "tokenizer")
    file = tmp_path / "model" / "tokenizer" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "merger_positions": True}))
    from lavit_core.errors import InputError

    with pytest.raises(InputError, match="merger_positions is True, expected False: the released code has no place"):
        export_checkpoint(tmp_path / "model", tmp_path / "back", quiet=True)
    assert not (tmp_path / "back").exists()


def test_geometry_fields_are_all_different():
    """Two sizes that agree would hide a mix-up of the two."""
    sizes = [getattr(Geometry(), name) for name in ("width", "mlp", "encoder_mlp", "codes", "code_dim", "decoded")]
    assert len(set(sizes)) == len(sizes)
    assert dataclasses.is_dataclass(Geometry)

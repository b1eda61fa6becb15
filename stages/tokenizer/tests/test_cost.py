"""The cost of a tokenizer's step on the meta device, against what torch counts when a phase takes a step."""

import pytest
import torch
from lavit_core.config import load_preset, resolve
from lavit_core.errors import InputError
from lavit_core.images import Preprocessing
from lavit_tokenizer.config import ModelSettings, SmallVitConfig, TrainEncoderConfig, TrainTokenizerConfig
from lavit_tokenizer.contrastive import ContrastiveModel
from lavit_tokenizer.cost import encoder_flops, planned_encoder, tokenizer_step
from lavit_tokenizer.encoder import Encoder, small_encoder
from lavit_tokenizer.encoder_folder import encoder_on_meta_device, load_encoder, save_encoder
from lavit_tokenizer.objective import forward_phase, losses
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.phase_step import trained_parts
from lavit_tokenizer.plan import plan_encoder, plan_tokenizer
from lavit_tokenizer.small_vit import SmallVit
from lavit_tokenizer.train_tokenizer import new_tokenizer
from lavit_trainkit.cost import count, plan_lines
from torch.utils.flop_counter import FlopCounterMode
from transformers import Blip2VisionConfig, Blip2VisionModel

IMAGES = 8


def encoder() -> Encoder:
    """A small frozen encoder: 32 px, 8 x 8 patches, width 64."""
    shape = SmallVitConfig(
        preprocessing=Preprocessing(image_px=32), patch_px=4, width=64, layers=2, heads=4, mlp_dim=128
    )
    return small_encoder(SmallVit(shape))


def settings(phase: Phase) -> TrainTokenizerConfig:
    model = ModelSettings(
        keep_ratio=0.25, merger_layers=3, decoder_layers=3, heads=4, mlp_dim=160, codebook_size=64, code_dim=8
    )
    return TrainTokenizerConfig(model=model, phases=(phase,), precision="fp32")


PHASES = {
    "masked": Phase(name="masked", num_steps=4, batch_size=IMAGES, selection="gumbel",
                    train=("selector", "merger", "decoder")),
    "packed": Phase(name="packed", num_steps=4, batch_size=IMAGES, selection="random", mask_rates=(0.25, 0.25),
                    train=("merger", "decoder")),
    "without merger": Phase(name="off", num_steps=4, batch_size=IMAGES, selection="gumbel", merger="off",
                            train=("selector", "decoder")),
    "decoder alone": Phase(name="codes", num_steps=4, batch_size=IMAGES, selection="random", quantise=True,
                           mask_rates=(0.25, 0.25), train=("decoder",)),
}  # fmt: skip


def taken(phase: Phase):
    """A tokenizer, and a function that computes a step's loss, with as many patches kept as the plan assumes."""
    torch.manual_seed(0)
    config = settings(phase)
    tokenizer = new_tokenizer(config, encoder())
    trained_parts(tokenizer, phase, muon=False)
    features = torch.randn(IMAGES, 64, 64)

    def loss():
        output = forward_phase(tokenizer, features, phase, step=0, seed=0)
        return losses(output, features, config, None)["loss"]

    return loss


@pytest.mark.parametrize("name", PHASES)
def test_planned_operations_are_those_of_a_step(name):
    phase = PHASES[name]
    step = tokenizer_step(settings(phase), phase, encoder_on_meta(), cached=True)
    loss = taken(phase)
    counter = FlopCounterMode(display=False)
    with counter:
        loss().backward()
    # Random masks differ a little in length, and packed rows are padded to the longest image inside the attention; a
    # fused kernel computes scores again in its backward pass.
    assert step.flops == pytest.approx(counter.get_total_flops(), rel=0.12)


def test_planned_activations_grow_with_the_batch_and_shrink_with_passes_and_checkpointing():
    phase = PHASES["packed"]
    plain = settings(phase)
    again = plain.model_copy(update={"gradient_checkpointing": True})
    halves = plain.model_copy(update={"accumulate_steps": 2})
    kept, recomputed, half = (
        tokenizer_step(one, phase, encoder_on_meta(), cached=True) for one in (plain, again, halves)
    )
    assert kept.activation_bytes / 4 < recomputed.activation_bytes < kept.activation_bytes / 2
    assert kept.flops < recomputed.flops < 1.4 * kept.flops
    assert half.activation_bytes == kept.activation_bytes / 2
    # Each pass has its own queries attend before they have read codes, once for all of its images.
    assert kept.flops < half.flops < 1.05 * kept.flops


def test_a_masked_phase_keeps_more_than_a_packed_one():
    masked, packed = (
        tokenizer_step(settings(PHASES[name]), PHASES[name], encoder_on_meta(), cached=True)
        for name in ("masked", "packed")
    )
    assert masked.activation_bytes > 2 * packed.activation_bytes


def encoder_on_meta() -> Encoder:
    with torch.device("meta"):
        return encoder()


def test_an_encoder_is_counted_without_its_weights(tmp_path):
    save_encoder(encoder(), tmp_path)
    absent, real = encoder_on_meta_device(tmp_path), load_encoder(tmp_path)
    assert all(parameter.is_meta for parameter in absent.parameters())
    assert count(absent) == count(real)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        real(torch.zeros(3, 3, 32, 32))
    assert 3 * encoder_flops(absent) == counter.get_total_flops()


def test_a_transformers_encoder_is_counted_from_its_configuration(tmp_path):
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    network = Blip2VisionModel(Blip2VisionConfig(**shape, image_size=24, patch_size=8))
    network.save_pretrained(tmp_path)
    absent = encoder_on_meta_device(tmp_path)
    assert all(parameter.is_meta for parameter in absent.parameters())
    assert (absent.grid, absent.feature_dim, absent.num_prefix) == ((3, 3), 32, 1)
    assert count(absent) == count(network)
    rows, attentions = 10, 2 * 4 * 10 * 10 * 32
    patches = 2 * 9 * 3 * 8 * 8 * 32
    inside = 2 * rows * 2 * (4 * 32 * 32 + 2 * 32 * 48)
    assert encoder_flops(absent) == attentions + patches + inside
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="model_type is 'bert', which reads no images"):
        encoder_on_meta_device(tmp_path)


def test_the_papers_encoder_has_its_size():
    # docs/released-weights.md, without CLIP's projection, with biases for keys.
    assert count(planned_encoder(None)) == 1_012_588_928 - (1024 * 1408 + 1024) + 40 * 1408
    # 0.53e12 operations an image of 257 rows: 2 N R and 40 attentions.
    assert encoder_flops(planned_encoder(None)) == pytest.approx(0.53e12, rel=0.02)


def test_an_encoder_step_counts_all_that_is_trained():
    config = TrainEncoderConfig()
    step = plan_encoder(config)["cost"]["steps"]["train-encoder"]
    with torch.device("meta"):
        model = ContrastiveModel(config, config.vocabulary_size)
    assert step["parameters"]["encoder and heads"] == {"all": count(model), "trained": count(model)}
    # 6 operations a weight and row, of 64 patches and up to 32 words.
    assert 6 * 64 * count(model.vision) < step["flops_per_step"] / config.batch_size < 6 * 64 * 1.5 * count(model)


def test_the_published_preset_is_planned_without_an_encoder():
    found = plan_tokenizer(TrainTokenizerConfig())
    assert found["encoder"] == "EVA-CLIP ViT-g/14"
    assert found["assumed"] == "the encoder is EVA-CLIP ViT-g/14; give --model or --encoder for another"
    assert found["parameters"]["merger"] == 398_267_392
    features, codes = found["cost"]["steps"].values()
    assert codes["flops_per_step"] < features["flops_per_step"]  # packed against masked
    assert codes["parameters"]["selector"]["trained"] == 0
    assert found["tokens_per_image"] == 85


def test_a_preset_is_planned_with_the_encoder_of_its_name():
    config = resolve(TrainTokenizerConfig, preset=load_preset("lavit_tokenizer", "train-tokenizer", "tiny"))
    found = plan_tokenizer(config, preset="tiny")
    assert found["encoder"] == "that of `train-encoder --preset tiny`"
    assert 450_000 < found["parameters"]["encoder"] < 550_000
    assert found["codebook"] == f"{config.model.codebook_size} codes of {config.model.code_dim} numbers each"
    lines = plan_lines(found)
    assert (
        lines[0]
        == "assumed: the encoder is that of `train-encoder --preset tiny`; give --model or --encoder for another"
    )
    assert [line.split(":")[0] for line in lines if line.startswith("  phases.")] == [
        f"  phases.{phase.name}" for phase in config.phases
    ]
    assert len([line for line in lines if line.startswith("  code projection:")]) == 1
    assert "encode_task_layer" not in "".join(lines)
    factored = resolve(ModelSettings, preset=config.model.model_dump(), flags={"codebook_factors": (64, 32)})
    found = plan_tokenizer(config.model_copy(update={"model": factored}), preset="tiny")
    assert found["codebook"] == "64 x 32 = 2048 codes of 32 numbers each"

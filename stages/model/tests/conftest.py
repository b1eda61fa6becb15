"""A random model directory of every part, of each way of reading images, and images of its size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from lavit_core.images import Preprocessing
from lavit_core.modeldir import export_part, part_digest
from lavit_detokenizer.condition import Condition
from lavit_detokenizer.config import DetokenizerConfig, NoiseShape, UNetShape
from lavit_detokenizer.folder import save_detokenizer
from lavit_detokenizer.network import Denoiser, Detokenizer, sample_shape
from lavit_detokenizer.noise import build_scheduler
from lavit_detokenizer.unet import build_unet
from lavit_pretrain.config import LlmShape
from lavit_pretrain.language_model import LanguageModel, VisualConfig, build_llm
from lavit_tokenizer.api import VisualTokenizer, new_merger
from lavit_tokenizer.config import SmallVitConfig, TokenizerConfig
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.small_vit import SmallVit
from lavit_tokenizer.tokenizer_folder import write_tokenizer

VISION = SmallVitConfig(preprocessing=Preprocessing(image_px=16), patch_px=4, width=16, layers=1, heads=2, mlp_dim=32)
CODEBOOK = 24
UNET = UNetShape(
    block_out_channels=(16,),
    layers_per_block=1,
    down_block_types=("DownBlock2D",),
    mid_block_type=None,
    up_block_types=("UpBlock2D",),
    norm_num_groups=8,
)
LLM = LlmShape(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_positions=128, text_vocab_size=400)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def random_tokenizer() -> VisualTokenizer:
    torch.manual_seed(0)
    encoder = Encoder(
        SmallVit(VISION), preprocessing=VISION.preprocessing, grid=VISION.grid, feature_dim=16, num_prefix=0
    )
    config = TokenizerConfig(
        preprocessing=VISION.preprocessing, grid=VISION.grid, feature_dim=16, merger_layers=1, heads=2, mlp_dim=32,
        codebook_size=CODEBOOK, code_dim=8, decoder_layers=1,
    )  # fmt: skip
    tokenizer = VisualTokenizer(config, encoder)
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return tokenizer


def random_llm(tokenizer: VisualTokenizer, image_input: str, digest: str) -> LanguageModel:
    torch.manual_seed(1)
    network, text, layout = build_llm(LLM, None, ["a red circle", "what is blue?"] * 3, CODEBOOK)
    metadata = VisualConfig(
        image_input=image_input, text_vocab=layout.text_vocab, codebook_size=CODEBOOK, feature_dim=16, grid=(4, 4),
        preprocessing={}, tokenizer_digest=digest, code_range=(3, 9),
    )  # fmt: skip
    # Large weights: an untrained model hardly hears its prompt otherwise.
    for matrix in (parameter for parameter in network.parameters() if parameter.ndim == 2):
        matrix.data.normal_(0, 0.4)
    merger = new_merger(tokenizer.config) if image_input == "live" else None
    return LanguageModel(network, text, metadata, merger)


def random_detokenizer(sizes: Sequence[str] = ()) -> Detokenizer:
    torch.manual_seed(2)
    config = DetokenizerConfig.model_validate(
        {"space": "pixel", "image_px": 16, "unshuffle": 4, "feature_dim": 16, "grid": (4, 4),
         "condition": {"kind": "concat", "map_channels": 8, "standardise": True}, "sizes": sizes}
    )  # fmt: skip
    noise = NoiseShape(
        prediction_type="sample", beta_schedule="squaredcos_cap_v2", clip_sample=True, rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )  # fmt: skip
    unet = build_unet(config, UNET, sample_shape(config, None))
    return Detokenizer(
        config=config, denoiser=Denoiser(unet, Condition(config)), scheduler=build_scheduler(noise), vae=None
    )


def write_model(folder: Path, image_input: str, sizes: Sequence[str] = ()) -> Path:
    tokenizer = random_tokenizer()
    with export_part(folder, "tokenizer") as part:
        write_tokenizer(tokenizer, part)
    made_with = {"tokenizer_digest": part_digest(folder / "tokenizer"), "selection": "topk"}
    with export_part(folder, "llm", metadata=made_with) as part:
        random_llm(tokenizer, image_input, made_with["tokenizer_digest"]).save(part)
    with export_part(folder, "detokenizer", metadata=made_with) as part:
        save_detokenizer(random_detokenizer(sizes), part)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model directory for each way of reading images."""
    root = tmp_path_factory.mktemp("models")
    return {
        image_input: write_model(root / image_input, image_input)
        for image_input in ("codes", "features", "live", "none")
    }


@pytest.fixture(scope="session")
def sized_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory whose detokenizer draws three sizes."""
    return write_model(tmp_path_factory.mktemp("sized") / "model", "codes", ("16x16", "24x16", "16x24"))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """uint8 [5, 16, 16, 3]"""
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)

"""A detokenizer before training: from settings, and from the files that are given with them."""

from pathlib import Path

from lavit_core.errors import InputError, UsageError
from lavit_trainkit.external_weights import read_tensors
from torch import Tensor

from lavit_detokenizer.condition import Condition
from lavit_detokenizer.config import DetokenizerConfig, TrainDetokenizerConfig
from lavit_detokenizer.folder import NULL_KEY, check_network, load_network
from lavit_detokenizer.network import Denoiser, Detokenizer, Network, build_refiner, sample_shape, shape_of
from lavit_detokenizer.noise import build_scheduler
from lavit_detokenizer.sizes import size_name, trained_sizes
from lavit_detokenizer.start_files import StartFiles
from lavit_detokenizer.transformer import build_transformer
from lavit_detokenizer.unet import build_unet
from lavit_detokenizer.vae import Vae


def check_files(config: TrainDetokenizerConfig, start: StartFiles) -> None:
    """Refuse settings whose files are not given, and files that the settings do not use.

    Raises UsageError; InputError if the null embedding is not a file.
    """
    unet, transformer, null_embedding = start.unet, start.transformer, start.null_embedding
    if (config.space == "latent") != (start.vae is not None):
        found = "none" if start.vae is None else str(start.vae)
        raise UsageError(f"--vae: found {found}, expected a diffusers AutoencoderKL folder with space latent only")
    if unet is not None and transformer is not None:
        raise UsageError(f"--unet {unet} and --transformer {transformer}: expected one of the two")
    if unet is not None and config.transformer is not None:
        raise UsageError(f"--unet {unet} with setting transformer: expected one of the two")
    if transformer is not None and config.condition.pooled_dim is not None:
        raise UsageError(
            f"--transformer {transformer} with setting condition.pooled_dim {config.condition.pooled_dim}: expected "
            "none, which only SDXL's UNet takes"
        )
    if (config.condition.null_condition == "stored") != (null_embedding is not None):
        found = "none" if null_embedding is None else str(null_embedding)
        raise UsageError(f"--null-embedding: found {found}, expected a safetensors file for null_condition stored")
    if null_embedding is not None and not null_embedding.is_file():
        raise InputError(f"--null-embedding {null_embedding}: file not found, expected a safetensors file")


def build_detokenizer(
    config: TrainDetokenizerConfig,
    feature_dim: int,
    grid: tuple[int, int],
    *,
    unet: Path | None = None,
    transformer: Path | None = None,
    vae: Vae | None = None,
    null_embedding: Path | None = None,
) -> Detokenizer:
    """Return the untrained detokenizer for decoded features of a width and grid; the global generator must be seeded.

    Raises InputError if a given network does not fit the settings, UsageError if the null embedding does not fit or
    diffusers cannot build the network.
    """
    shape = config.detokenizer(feature_dim, grid)
    sample, given = sample_shape(shape, vae), unet or transformer
    network: Network
    if given is not None:
        network = load_network(given, "unet" if unet is not None else "transformer")
        check_network(network, given, shape, sample)
    elif config.transformer is not None:
        network = build_transformer(shape, config.transformer, sample)
    else:
        network = build_unet(shape, config.unet, sample)
    check_sizes(shape, sample, network)
    null = None if null_embedding is None else read_null_embedding(null_embedding, sum(config.condition.cross_dims))
    condition = Condition(shape, null_shape=None if null is None else (null.shape[0], null.shape[1]))
    if null is not None:
        condition.null_embedding.copy_(null)
    # Last, so that the other weights are drawn as without it.
    denoiser = Denoiser(network, condition, build_refiner(shape))
    return Detokenizer(config=shape, denoiser=denoiser, scheduler=build_scheduler(config.process), vae=vae)


def check_sizes(config: DetokenizerConfig, sample: tuple[int, int, int], network: Network) -> None:
    """Refuse sizes whose samples are no whole number of latents or of a transformer's patches. Raises UsageError."""
    patch = getattr(network.config, "patch_size", 1)
    for size_px in trained_sizes(config):
        try:
            _, height, width = shape_of(config, sample, size_px)
        except UsageError as error:
            raise UsageError(f"setting sizes: {error}") from None
        if height % patch or width % patch:
            raise UsageError(
                f"setting sizes: {size_name(size_px)} is a grid of {width} x {height}, expected multiples of the "
                f"transformer's patch_size {patch}"
            )


def read_null_embedding(file: Path, width: int) -> Tensor:
    """Return a stored null-text embedding [L, width]. Raises UsageError if the file has none of that width."""
    null = read_tensors(file).get(NULL_KEY)
    if null is None or null.ndim != 2 or null.shape[1] != width:
        found = "absent" if null is None else tuple(null.shape)
        raise UsageError(f"--null-embedding {file}: {NULL_KEY} is {found}, expected [rows, {width}]")
    return null

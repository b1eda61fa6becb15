"""Settings of the stage: shipped presets, and values that are refused."""

from importlib import resources

import pytest
from lavit_core.config import load_preset, resolve
from lavit_core.errors import UsageError
from lavit_detokenizer.config import DrawSettings, NoiseShape, TrainDetokenizerConfig

MODELS = {"train-detokenizer": TrainDetokenizerConfig, "detokenize": DrawSettings}
PRESETS = sorted(file.name for file in (resources.files("lavit_detokenizer") / "presets").iterdir())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_have_a_header(name):
    command, preset, _ = name.split(".")
    resolve(MODELS[command], preset=load_preset("lavit_detokenizer", command, preset))
    text = (resources.files("lavit_detokenizer") / "presets" / name).read_text()
    assert text.startswith(f"# lavit {command} ")


@pytest.mark.parametrize(
    "name", ["num_steps", "batch_size", "log_every", "checkpoint_every", "image_px", "unshuffle", "accumulate_steps"]
)
def test_zero_is_refused(name):
    with pytest.raises(UsageError, match=f"setting {name}: .*greater than or equal to 1"):
        resolve(TrainDetokenizerConfig, sets=[f"{name}=0"])


def test_noise_alone_with_epsilon_is_refused():
    with pytest.raises(ValueError, match="the last level is noise alone"):
        NoiseShape(rescale_betas_zero_snr=True, prediction_type="epsilon")


def test_yaml_reads_a_ratio_as_a_number():
    with pytest.raises(UsageError, match="4:3 is read as 243; write that number, or quote the text"):
        resolve(DrawSettings, sets=["aspect_ratio=4:3"])
    assert resolve(DrawSettings, sets=['aspect_ratio="4:3"']).aspect_ratio == "4:3"
    with pytest.raises(UsageError, match=r"setting aspect_ratio: Input should be '1:1', '4:3', .* found '5:4'"):
        resolve(DrawSettings, flags={"aspect_ratio": "5:4"})


def test_image_px_must_be_a_multiple_of_unshuffle():
    with pytest.raises(UsageError, match="image_px 20 is not a multiple of unshuffle 8"):
        resolve(TrainDetokenizerConfig, sets=["space=pixel", "image_px=20", "unshuffle=8"])


@pytest.mark.parametrize(
    "sets",
    [
        ["space=latent", "noise.prediction_type=sample"],
        ["space=pixel"],
        ["space=pixel", "noise.prediction_type=v_prediction"],
    ],
)
def test_only_predicted_pixels_are_refined(sets):
    with pytest.raises(
        UsageError, match=r"refine_channels 8 with space .*set space to pixel and prediction_type to sam"
    ):
        resolve(TrainDetokenizerConfig, sets=[*sets, "refine_channels=8"])
    pixels = resolve(TrainDetokenizerConfig, sets=["space=pixel", "noise.prediction_type=sample", "refine_channels=8"])
    assert pixels.detokenizer(8, (2, 2)).refine_channels == 8
    with pytest.raises(UsageError, match=r"setting refine_layers: .*greater than or equal to 2"):
        resolve(TrainDetokenizerConfig, sets=["refine_layers=1"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lr=-1", "setting lr: .* greater than or equal to 0, found -1"),
        ("lr_floor=2", "setting lr_floor: .* less than or equal to 1, found 2"),
        ("ema_decay=1", "setting ema_decay: .* less than 1, found 1"),
        ("max_grad_norm=0", "setting max_grad_norm: .* greater than 0, found 0"),
        ("betas=[1,1]", "setting betas.0: .* less than 1, found 1"),
        ("condition.map_channels=0", "setting condition.map_channels: .* greater than or equal to 1, found 0"),
        ("noise.num_train_timesteps=0", "setting noise.num_train_timesteps: .* greater than or equal to 1, found 0"),
        ("unet.norm_num_groups=0", "setting unet.norm_num_groups: .* greater than or equal to 1, found 0"),
    ],
)
def test_an_impossible_setting_is_refused_before_anything_is_built(setting, message):
    with pytest.raises(UsageError, match=message):
        resolve(TrainDetokenizerConfig, sets=[setting])

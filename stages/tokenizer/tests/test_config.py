import pytest
from lavit_core.config import load_preset, resolve
from lavit_core.errors import UsageError
from lavit_tokenizer.config import TrainEncoderConfig, TrainTokenizerConfig


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lr=-1", "setting lr: .* greater than or equal to 0, found -1"),
        ("warmup_steps=-3", "setting warmup_steps: .* greater than or equal to 0, found -3"),
        ("betas=[0.9,1.0]", r"setting betas.1: .* less than 1, found 1.0"),
        ("max_grad_norm=0", "setting max_grad_norm: .* greater than 0, found 0"),
        ("vision.heads=3", "heads 3: expected a divisor of width 128"),
        ("vision.patch_px=7", "patch_px 7: expected a power of two"),
        ("vision.patch_px=128", "patch_px 128: expected at most image_px 64"),
        ("text_heads=5", "text_heads 5: expected a divisor of text_width 128"),
        ("context_patches=2", "context_patches 2: expected an odd number"),
    ],
)
def test_an_impossible_encoder_is_refused_before_it_is_built(setting, message):
    with pytest.raises(UsageError, match=message):
        resolve(TrainEncoderConfig, sets=[setting])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("phases=[]", "setting phases: .* at least 1 item"),
        ("phases.selector.train=[]", "setting phases.1.train: .* at least 1 item"),
        ("phases.selector.lr=-1", "setting phases.1.lr: .* greater than or equal to 0, found -1"),
        # Their batches and draws go by the phase's name.
        ("phases.selector.name=codes", "phases: 4, and codes names more than one"),
        ("betas=[1,0.9]", "setting betas.0: .* less than 1, found 1"),
        ("max_grad_norm=-1", "setting max_grad_norm: .* greater than 0, found -1"),
    ],
)
def test_an_impossible_recipe_is_refused(setting, message):
    preset = load_preset("lavit_tokenizer", "train-tokenizer", "tiny")
    with pytest.raises(UsageError, match=message):
        resolve(TrainTokenizerConfig, preset=preset, sets=[setting])

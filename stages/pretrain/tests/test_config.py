import pytest
from lavit_core.config import resolve
from lavit_core.errors import UsageError
from lavit_pretrain.config import PretrainConfig


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("llm.num_heads=3", "hidden_size 4096 with num_heads 3: expected a multiple of twice the heads"),
        ("llm.num_heads=4096", "hidden_size 4096 with num_heads 4096: expected a multiple of twice the heads"),
        ("llm.hidden_size=0", "setting llm.hidden_size: .* greater than or equal to 1, found 0"),
        ("llm_lr=-1", "setting llm_lr: .* greater than or equal to 0, found -1"),
        ("betas=[0.9,1]", "setting betas.1: .* less than 1, found 1"),
        ("eps=0", "setting eps: .* greater than 0, found 0"),
        ("weight_decay=-0.1", "setting weight_decay: .* greater than or equal to 0, found -0.1"),
    ],
)
def test_an_impossible_setting_is_refused_before_anything_is_built(setting, message):
    with pytest.raises(UsageError, match=message):
        resolve(PretrainConfig, sets=[setting])

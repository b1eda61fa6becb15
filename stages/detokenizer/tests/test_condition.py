"""The condition against plain references."""

import torch
import torch.nn.functional as F
from lavit_detokenizer.condition import AttentionPool, Condition
from lavit_detokenizer.config import ConditionShape, DetokenizerConfig


def small(**condition):
    return DetokenizerConfig(image_px=16, feature_dim=6, grid=(2, 3), condition=ConditionShape(**condition))


def test_attention_pooling_is_clips():
    pool = AttentionPool(5, 8, 3, heads=2)
    x = torch.randn(4, 5, 8)
    tokens = torch.cat([x.mean(1, keepdim=True), x], dim=1) + pool.positional_embedding
    expected, _ = F.multi_head_attention_forward(
        tokens[:, :1].transpose(0, 1), tokens.transpose(0, 1), tokens.transpose(0, 1), 8, 2, None,
        torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
        pool.c_proj.weight, pool.c_proj.bias, use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
    )  # fmt: skip
    torch.testing.assert_close(pool(x), expected[0])


def test_released_names_and_widths():
    names = set(Condition(DetokenizerConfig()).state_dict())
    assert names == {"unet_proj.weight", "unet_proj.bias"}
    sdxl = ConditionShape(cross_dims=(768, 1280), pooled_dim=1280)
    with torch.device("meta"):
        state = Condition(DetokenizerConfig(condition=sdxl)).state_dict()
    assert tuple(state["unet_proj_1.weight"].shape) == (768, 1408)
    assert tuple(state["unet_proj_2.weight"].shape) == (1280, 1408)
    assert tuple(state["unet_attnpool.positional_embedding"].shape) == (257, 1408)
    assert tuple(state["unet_attnpool.c_proj.weight"].shape) == (1280, 1408)


def test_sequence_map_and_zeros():
    condition = Condition(small(kind="both", cross_dims=(4, 5), map_channels=3))
    x, dropped = torch.randn(2, 6, 6), torch.tensor([False, True])
    prompt = condition(x, dropped, grid=(4, 4))
    expected = torch.cat([condition.unet_proj_1(x), condition.unet_proj_2(x)], dim=-1)
    torch.testing.assert_close(prompt.sequence_BLW[0], expected[0])
    assert prompt.sequence_BLW.shape == (2, 6, 9)
    assert prompt.mask_BL is None
    assert not prompt.sequence_BLW[1].any()
    assert not prompt.map_BCHW[1].any()
    assert prompt.map_BCHW.shape == (2, 3, 4, 4)
    # Patch (row 1, column 2) of the 2 x 3 grid covers the lower right of the UNet's grid.
    torch.testing.assert_close(prompt.map_BCHW[0, :, 3, 3], condition.map_proj(x[0, 5]))


def test_a_map_of_another_shape_is_stretched_over_it():
    condition = Condition(small(kind="concat", map_channels=1))
    condition.map_proj.weight.data.zero_()[0, 0] = 1.0
    condition.map_proj.bias.data.zero_()
    x = torch.zeros(1, 6, 6)
    x[0, :, 0] = torch.tensor([0.0, 1.0, 2.0] * 2)  # grows to the right over the 2 x 3 patches
    [map_HW] = condition(x, torch.tensor([False]), grid=(3, 5)).map_BCHW[0]
    torch.testing.assert_close(map_HW[0], torch.tensor([0.0, 0.4, 1.0, 1.6, 2.0]))
    assert (map_HW == map_HW[0]).all()


def test_stored_null_hides_its_padding():
    condition = Condition(small(cross_dims=(4,), null_condition="stored"), null_shape=(2, 4))
    condition.null_embedding.copy_(torch.ones(2, 4))
    prompt = condition(torch.randn(2, 6, 6), torch.tensor([False, True]), grid=(4, 4))
    assert prompt.mask_BL.tolist() == [[True] * 6, [True, True] + [False] * 4]
    torch.testing.assert_close(prompt.sequence_BLW[1, :2], torch.ones(2, 4))
    longer = Condition(small(cross_dims=(4,), null_condition="stored"), null_shape=(9, 4))
    prompt = longer(torch.randn(2, 6, 6), torch.tensor([False, True]), grid=(4, 4))
    assert prompt.mask_BL.tolist() == [[True] * 6 + [False] * 3, [True] * 9]


def test_standardised_features():
    condition = Condition(small(kind="concat", map_channels=3, standardise=True))
    x = torch.randn(50, 6, 6) * torch.tensor([1, 10, 100, 1, 1, 0.0]) + 5
    condition.fit_scale(x)
    scaled = (x - condition.feature_mean) / condition.feature_deviation
    torch.testing.assert_close(scaled.mean((0, 1)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled[..., :5].std((0, 1)), torch.ones(5))
    assert torch.isfinite(scaled).all()

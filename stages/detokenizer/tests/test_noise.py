"""Noisy samples, targets and dropped conditions against plain references."""

import pytest
import torch
from lavit_detokenizer.config import NoiseShape
from lavit_detokenizer.noise import (
    build_scheduler,
    draw_dropped,
    draw_noise,
    draw_timesteps,
    noisy_and_target,
    training_scheduler,
)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_targets_are_the_schedulers(kind):
    noise_shape = NoiseShape(prediction_type=kind)
    scheduler = training_scheduler(build_scheduler(noise_shape))
    clean, noise = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    levels = torch.tensor([0, 10, 400, 700, 999])
    noisy, target = noisy_and_target(scheduler, clean, noise, levels)
    # Stable Diffusion's "scaled linear" betas, from their definition.
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = torch.cumprod(1 - betas, dim=0)[levels].view(-1, 1, 1, 1)
    torch.testing.assert_close(noisy, kept.sqrt() * clean + (1 - kept).sqrt() * noise, rtol=1e-5, atol=1e-5)
    expected = {"epsilon": noise, "sample": clean, "v_prediction": kept.sqrt() * noise - (1 - kept).sqrt() * clean}
    torch.testing.assert_close(target, expected[kind], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_perfect_prediction_leads_back_to_the_image(kind):
    noise_shape = NoiseShape(prediction_type=kind, timestep_spacing="trailing")
    ddim = build_scheduler(noise_shape)
    scheduler = training_scheduler(ddim)
    clean, noise = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    ddim.set_timesteps(10)
    sample = scheduler.add_noise(clean, noise, ddim.timesteps[:1])
    for level in ddim.timesteps:
        target = noisy_and_target(scheduler, clean, noise, level[None])[1]
        sample = ddim.step(target, level, sample).prev_sample
    torch.testing.assert_close(sample, clean, rtol=1e-3, atol=1e-3)


def test_conditions_are_dropped_at_the_given_rate():
    dropped = torch.cat([draw_dropped(50, 0.1, seed=3, step=step) for step in range(200)])
    assert abs(float(dropped.float().mean()) - 0.1) < 0.012  # 4 standard errors of 10,000 draws
    assert not draw_dropped(50, 0.0, seed=3, step=0).any()
    assert draw_dropped(50, 1.0, seed=3, step=0).all()
    assert torch.equal(draw_dropped(50, 0.5, seed=3, step=7), draw_dropped(50, 0.5, seed=3, step=7))


def test_noise_depends_on_seed_and_step_alone():
    def drawn(seed, step):
        process = NoiseShape(num_train_timesteps=20)
        return draw_noise(50, (3, 4, 4), seed=seed, step=step), draw_timesteps(process, 50, seed=seed, step=step)

    noise, levels = drawn(3, 7)
    assert noise.shape == (50, 3, 4, 4)
    assert 0 <= int(levels.min()) <= int(levels.max()) < 20
    again = drawn(3, 7)
    assert torch.equal(noise, again[0])
    assert torch.equal(levels, again[1])
    for other in ((4, 7), (3, 8)):
        assert not torch.equal(noise, drawn(*other)[0])

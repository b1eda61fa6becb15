"""Flow matching: path, times, velocity, and drawing along known fields."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from lavit_core.errors import UsageError
from lavit_detokenizer.config import DrawSettings, FlowShape
from lavit_detokenizer.draw import denoise, draw
from lavit_detokenizer.flow import build_flow_scheduler, draw_flow_timesteps, on_the_path, set_steps, velocity
from lavit_trainkit.device import generator

from .conftest import FLOW, random_detokenizer, shake


def test_the_path_is_straight_and_its_velocity_is_noise_minus_image():
    clean, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    times = torch.tensor([0.0, 250.0, 1000.0])
    noisy, target = on_the_path(FlowShape(), clean, noise, times)
    torch.testing.assert_close(noisy, torch.stack([clean[0], 0.75 * clean[1] + 0.25 * noise[1], noise[2]]))
    torch.testing.assert_close(target, noise - clean)
    image = FlowShape(prediction_type="sample")
    noisy, target = on_the_path(image, clean, noise, times)
    assert torch.equal(target, clean)
    torch.testing.assert_close(velocity(image, clean[1:2], noisy[1:2], times[1]), (noise - clean)[1:2])


def test_times_are_distributed_as_the_settings_say():
    def shares(**changes):
        shape = FlowShape.model_validate(changes)
        times = torch.cat([draw_flow_timesteps(shape, 100, seed=3, step=step) for step in range(100)])
        assert 0 < float(times.min()) < float(times.max()) < shape.num_train_timesteps
        return times / shape.num_train_timesteps

    # Shares of 10,000 draws: 3 standard errors are 0.015.
    even = shares(timestep_sampling="uniform")
    assert abs(float((even < 0.25).float().mean()) - 0.25) < 0.015
    # The sigmoid of a standard normal number is below 1/4 where the number is below -ln 3: 0.136 of them.
    middle = shares()
    assert abs(float((middle < 0.25).float().mean()) - 0.136) < 0.015
    noisier = shares(timestep_sampling="uniform", shift=3.0)
    torch.testing.assert_close(noisier, 3 * even / (1 + 2 * even))
    assert float(shares(logit_mean=1.0, logit_std=0.1).std()) < 0.03
    again, other = (draw_flow_timesteps(FlowShape(), 5, seed=3, step=step) for step in (0, 1))
    assert torch.equal(again, draw_flow_timesteps(FlowShape(), 5, seed=3, step=0))
    assert not torch.equal(again, other)


def drawn_along(monkeypatch, field, **changes):
    """Return the noise, what drawing makes of it along a field of (sample, time), and the times that were asked."""
    made, times = random_detokenizer(**FLOW | {"flow": changes.pop("flow", {})}), []

    def predict(noisy, timesteps, prompt, size_px=None):
        times.append(float(timesteps[0]))
        return field(noisy, timesteps[0] / 1000)

    monkeypatch.setattr(made.denoiser, "predict", predict)
    settings = DrawSettings.model_validate({"guidance_scale": 1.0, **changes})
    sample = denoise(made, torch.zeros(2, 16, 16), seeds=[5, 6], settings=settings)
    noise = torch.stack([torch.randn(made.sample_shape, generator=generator(seed, "draw")) for seed in (5, 6)])
    return noise, sample, times


@pytest.mark.parametrize("num_steps", [1, 4, 25])
@pytest.mark.parametrize("flow", [{}, {"shift": 3.0}, {"prediction_type": "sample"}])
def test_the_field_of_one_image_leads_to_it_in_any_number_of_steps(monkeypatch, flow, num_steps):
    image = torch.rand(2, 48, 4, 4)

    def field(noisy, s):
        return image if flow.get("prediction_type") == "sample" else (noisy - image) / s

    _, sample, _ = drawn_along(monkeypatch, field, num_steps=num_steps, flow=flow)
    torch.testing.assert_close(sample, image, rtol=1e-4, atol=1e-4)


def test_drawing_takes_eulers_steps_along_a_curved_field(monkeypatch):
    noise, sample, times = drawn_along(monkeypatch, lambda noisy, s: 0.5 * noisy + s, num_steps=4, flow={"shift": 3.0})
    # Even times 1, 3/4, 1/2, 1/4, 0, shifted: 3 s / (1 + 2 s).
    expected_times = [1.0, 0.9, 0.75, 0.5, 0.0]
    assert times == pytest.approx([1000 * s for s in expected_times[:-1]])
    expected = noise
    for now, after in itertools.pairwise(expected_times):
        expected = expected + (after - now) * (0.5 * expected + now)
    torch.testing.assert_close(sample, expected)


def test_four_steps_are_four_quarters():
    scheduler = build_flow_scheduler(FlowShape())
    set_steps(scheduler, 4)
    assert scheduler.sigmas.tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert scheduler.timesteps.tolist() == [1000, 750, 500, 250]


def test_the_loss_has_the_gradient_of_its_definition():
    made = random_detokenizer(**FLOW, condition={"kind": "both", "cross_dims": (8,), "map_channels": 4})
    denoiser = made.denoiser.requires_grad_(True)
    shake(denoiser)
    clean, noise, features = torch.randn(2, 48, 4, 4), torch.randn(2, 48, 4, 4), torch.randn(2, 16, 16)
    noisy, target = on_the_path(FlowShape(), clean, noise, torch.tensor([300.0, 900.0]))

    def loss():
        dropped = torch.tensor([False, True])
        return F.mse_loss(denoiser(noisy, torch.tensor([300.0, 900.0]), features, dropped), target)

    loss().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.norm()) > 0, name
        # The loss of weights moved along their gradient, against the gradient: fp32 differences hold three digits.
        direction = parameter.grad / parameter.grad.norm()
        with torch.no_grad():
            losses = []
            for sign in (1, -2):
                parameter.add_(sign * 1e-2 * direction)
                losses.append(float(loss()))
            parameter.add_(1e-2 * direction)
        assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(float(parameter.grad.norm()), rel=0.02, abs=2e-3), name


def test_what_flow_matching_does_not_draw_is_refused():
    made, features = random_detokenizer(**FLOW), torch.randn(1, 16, 16)
    with pytest.raises(UsageError, match="setting sampler: ddpm with a detokenizer of flow matching, expected ddim"):
        draw(made, features, seeds=[0], settings=DrawSettings(sampler="ddpm"))
    with pytest.raises(UsageError, match="setting num_steps: 1001, expected at most 1000"):
        draw(made, features, seeds=[0], settings=DrawSettings(num_steps=1001))

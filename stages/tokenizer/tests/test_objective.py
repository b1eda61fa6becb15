"""Loss terms against their formulas, and what each phase trains."""

import pytest
import torch
from lavit_tokenizer.objective import (
    ForwardOutput,
    count_factors,
    forward_phase,
    keep_moments,
    kept_metrics,
    losses,
    mean_predictor,
    random_mask,
    selector_explained_variance,
    temperature,
)
from lavit_tokenizer.patch_weights import patch_weights
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.phase_step import clip_phase, trained_parts

from .conftest import make_tokenizer, phases, tokenizer_settings


def test_loss_is_equation_4():
    tokenizer, phase = make_tokenizer(), phases(4)[1]
    x_BPD = torch.randn(3, 16, 16)
    output = forward_phase(tokenizer, x_BPD, phase, step=0, seed=0)
    config = tokenizer_settings(keep_term="image", nmse_weight=0.0, keep_weight=2.0)
    terms = losses(output, x_BPD, config, None)
    dot = (output.decoded * x_BPD).sum(-1) / output.decoded.norm(dim=-1) / x_BPD.norm(dim=-1)
    keep = (0.4 - output.mask.mean(1)).square().mean()
    torch.testing.assert_close(terms["loss"], (1 - dot).mean() + 2 * keep)
    batch = losses(output, x_BPD, config.model_copy(update={"keep_term": "batch"}), None)
    torch.testing.assert_close(batch["keep_term"], (0.4 - output.mask.mean()).square())


def test_commitment_pulls_to_the_code():
    tokenizer, phase = make_tokenizer(), phases(4)[3]
    x_BPD = torch.randn(3, 16, 16)
    output = forward_phase(tokenizer, x_BPD, phase, step=0, seed=0)
    vectors = tokenizer.quantizer.codebook[output.codes]
    config = tokenizer_settings(commitment_weight=0.25)
    terms, plain = losses(output, x_BPD, config, vectors), losses(output, x_BPD, config, None)
    torch.testing.assert_close(terms["commitment"], (2 - 2 * (output.z * vectors).sum(-1)).mean())
    torch.testing.assert_close(terms["loss"], plain["loss"] + 0.25 * terms["commitment"])


@pytest.mark.parametrize("index", range(4))
def test_each_phase_trains_its_modules_and_no_other(index):
    tokenizer, phase = make_tokenizer(), phases(4)[index]
    parts = trained_parts(tokenizer, phase, muon=True)
    output = forward_phase(tokenizer, torch.randn(4, 16, 16), phase, step=0, seed=0)
    losses(output, torch.randn(4, 16, 16), tokenizer_settings(), None)["loss"].backward()
    touched = {name.split(".")[0] for name, p in tokenizer.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"merger", "encode_task_layer", "decoder"} | ({"selector"} if index == 1 else set())
    # The selector's gradients are clipped apart from the others.
    clip_phase(parts, 1e-3)
    norms = {"selector": 0.0, "others": 0.0}
    for name, p in tokenizer.named_parameters():
        if p.grad is not None:
            norms["selector" if name.startswith("selector.") else "others"] += float(p.grad.square().sum())
    clipped = {"others": 1e-6} | ({"selector": 1e-6} if index == 1 else {"selector": 0.0})
    assert norms == pytest.approx(clipped, rel=1e-2)


def test_all_modules_learn_end_to_end_through_codes():
    """The authors' second advice (jy0205/LaVIT issue 29): selector, merger and decoder learn with quantisation on."""
    tokenizer = make_tokenizer()
    phase = phases(4)[1].model_copy(update={"quantise": True, "merger": "on"})
    trained_parts(tokenizer, phase, muon=False)
    x_BPD = torch.randn(4, 16, 16)
    output = forward_phase(tokenizer, x_BPD, phase, step=0, seed=0)
    assert output.codes is not None
    assert output.codes.shape == output.z.shape[:1] == (int((output.mask > 0.5).sum()),)
    terms = losses(output, x_BPD, tokenizer_settings(), tokenizer.quantizer.codebook[output.codes])
    terms["loss"].backward()
    touched = {name.split(".")[0] for name, p in tokenizer.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"merger", "encode_task_layer", "decoder", "selector"}
    # The dense form decodes what the packed one does.
    keep = output.mask > 0.5
    read, codes = tokenizer.quantizer(tokenizer.project(tokenizer.merger(x_BPD, keep)))
    assert torch.equal(codes, output.codes)
    torch.testing.assert_close(tokenizer.decoder(read, keep.sum(1)), output.decoded, atol=1e-5, rtol=1e-4)


def test_a_selector_without_gradient_is_refused():
    values = phases(4)[2].model_dump() | {"train": ("selector", "decoder")}
    with pytest.raises(ValueError, match=r"phase merger trains the selector, which gets no gradient from .*: fixed"):
        Phase.model_validate(values)


def test_random_masks_have_their_rates_and_keep_a_patch():
    keep = random_mask(torch.Size((400, 64)), (0.2, 0.5), torch.Generator().manual_seed(0))
    rates = keep.float().mean(1)
    assert 0.33 < float(rates.mean()) < 0.37
    assert float(rates.std()) > 0.08
    assert bool(random_mask(torch.Size((50, 16)), (0.0, 0.0), torch.Generator()).any(1).all())


def test_small_metrics():
    phase = phases(5)[1].model_copy(update={"tau": (1.0, 0.25)})
    assert [temperature(phase, step) for step in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.25])
    same = torch.ones(2, 4, 8)
    assert mean_predictor(same) == pytest.approx(0.0, abs=1e-6)
    assert mean_predictor(torch.cat([same, -same])) == pytest.approx(1.0)
    for keep, explained in ([0.2] * 4, 0.0), ([0.0, 1.0, 0.0, 0.0], 1.0), ([0.1, 0.5, 0.5, 0.9], 0.32):
        assert selector_explained_variance(keep_moments(torch.tensor([keep]).log().unsqueeze(-1))) == pytest.approx(
            explained, abs=1e-6
        )
    metrics = kept_metrics(torch.tensor([1, 64, 8]), 64)
    assert (metrics["kept_min"], metrics["kept_max"], sum(metrics["kept_histogram"])) == (1, 64, 3)


def test_energy_power_weighs_patches_by_their_energy():
    tokenizer, phase = make_tokenizer(), phases(4)[0]
    x_BPD = torch.randn(3, 16, 16) * torch.linspace(0.1, 2, 16)[None, :, None]
    output = forward_phase(tokenizer, x_BPD, phase, step=0, seed=0)
    error, energy = (output.decoded - x_BPD).square().sum(-1), x_BPD.square().sum(-1)
    plain = losses(output, x_BPD, tokenizer_settings(), None)
    torch.testing.assert_close(plain["nmse"], error.sum() / energy.sum())
    config = tokenizer_settings(energy_power=1.0)
    weighted = losses(output, x_BPD, config, None, weight_BP=patch_weights(x_BPD, (4, 4), config))
    torch.testing.assert_close(weighted["nmse"], (energy * error).sum() / energy.square().sum())


def test_a_cosine_that_counts_nothing_is_told_and_costs_no_gradient():
    x_BPD, decoded = torch.randn(3, 16, 16), torch.randn(3, 16, 16, requires_grad=True)
    mask = torch.ones(3, 16)
    output = ForwardOutput(decoded=decoded, mask=mask, log_keep=torch.zeros(3, 16, 2), z=torch.zeros(1, 1), codes=None)
    counted = losses(output, x_BPD, tokenizer_settings(), None)
    left_out = losses(output, x_BPD, tokenizer_settings(), None, cos_weight=0.0)
    torch.testing.assert_close(left_out["cos_loss"], counted["cos_loss"])
    assert counted["cos_loss"].requires_grad
    assert not left_out["cos_loss"].requires_grad


@pytest.mark.parametrize("kept_errors", [0.0, 0.25, 1.0])
def test_errors_of_kept_patches_count_so_many_times(kept_errors):
    x_BPD, weight_BP = torch.randn(3, 16, 16), torch.rand(3, 16)
    decoded = torch.randn(3, 16, 16, requires_grad=True)
    mask = (torch.rand(3, 16) < 0.4).float().requires_grad_()
    output = ForwardOutput(decoded=decoded, mask=mask, log_keep=torch.zeros(3, 16, 2), z=torch.zeros(1, 1), codes=None)
    config = tokenizer_settings(nmse_weight=1.0, keep_weight=0.0)
    terms = losses(output, x_BPD, config, None, cos_weight=0.0, weight_BP=weight_BP, kept_errors=kept_errors)
    error_BP = weight_BP * (decoded - x_BPD).square().sum(-1)
    energy = (weight_BP * x_BPD.square().sum(-1)).sum()
    counted = error_BP[mask == 0].sum() + kept_errors * error_BP[mask == 1].sum()
    torch.testing.assert_close(terms["loss"], counted / energy)
    terms["loss"].backward()
    # What a patch is worth to its mask is what the others fail to tell of it, as far as a kept one's error is let off.
    of_mask = torch.zeros_like(mask) if mask.grad is None else mask.grad
    torch.testing.assert_close(of_mask, -((1 - kept_errors) * error_BP / energy).detach())
    assert decoded.grad[mask == 1].any() == (kept_errors > 0)
    assert decoded.grad[mask == 0].any(dim=-1).all()


@pytest.mark.parametrize(
    ("change", "found"),
    [({"cos_weight": 1.0}, "cos_weight: 1"), ({"selection": "fixed", "cos_weight": 0.0}, "selection: fixed")],
)
def test_errors_are_weighed_only_with_a_drawn_mask_and_no_cosine(change, found):
    values = phases(4)[0].model_dump() | {"kept_errors": 0.5} | change
    with pytest.raises(ValueError, match=f"phase masks has kept_errors: 0.5 with {found}"):
        Phase.model_validate(values)


def test_counts_vary_in_every_second_image_by_the_best_patches_and_not_with_the_rows_of_a_pass():
    factors = count_factors(20_000, (0.5, 2.0), torch.Generator().manual_seed(0))
    assert (factors[::2] == 1).all()
    assert 0.5 <= factors[1::2].min() < 0.51 < 1.98 < factors[1::2].max() <= 2
    assert factors[1::2].log().mean().abs() < 0.01  # log-uniform: as often half as double
    tokenizer = make_tokenizer()
    plain = phases(4)[3]
    varied = plain.model_copy(update={"count_factors": (0.5, 2.0)})
    x_BPD = torch.randn(8, 16, 16, generator=torch.Generator().manual_seed(0))
    own, other = (forward_phase(tokenizer, x_BPD, phase, step=1, seed=0) for phase in (plain, varied))
    assert torch.equal(own.mask[::2], other.mask[::2])
    before, after = own.mask[1::2].sum(1), other.mask[1::2].sum(1)
    assert not torch.equal(before, after)
    assert (after >= (0.5 * before).floor()).all()
    assert (after <= (2 * before).ceil()).all()
    odds = (other.log_keep[..., 0] - other.log_keep[..., 1])[1::2]
    for row, mask in zip(odds, other.mask[1::2].bool(), strict=True):
        assert mask.all() or row[mask].min() > row[~mask].max()
    part = forward_phase(tokenizer, x_BPD[2:5], varied, step=1, seed=0, rows=slice(2, 5))
    assert torch.equal(part.mask, other.mask[2:5])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count_factors": (2.0, 0.5)}, "expected two positive numbers, the smaller one first"),
        ({"count_factors": (0.0, 1.0)}, "expected two positive numbers"),
        ({"count_factors": (0.5, 2.0), "selection": "random"}, "selection: random, expected fixed"),
    ],
)
def test_counts_that_can_not_vary_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Phase(**{"name": "codes", "num_steps": 1, "selection": "fixed", "train": ("merger",), **given})

"""The validation split of a training run, and the tokenizer's metrics on it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lavit_core.seeds import derive_seed
from torch import Tensor

from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.features import FeatureSource
from lavit_tokenizer.objective import keep_moments, kept_metrics, mean_predictor, selector_explained_variance
from lavit_tokenizer.quantizer import factor_usage, usage
from lavit_tokenizer.selection_statistics import detail_of_kept, patch_detail, place_explained
from lavit_tokenizer.selector import select_threshold
from lavit_tokenizer.token_findings import FEW_TOKENS, TokenFacts
from lavit_tokenizer.tokenizer import VisualTokenizer


def split_validation(num_items: int, num_validation: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (training, validation) indices; validation is at most a tenth of the items, and neither is ever empty.

    With fewer than ten items, validation repeats training items rather than being empty.
    """
    order = np.random.default_rng(derive_seed(seed, "validation")).permutation(num_items)
    held = min(num_validation, num_items // 10)
    if held == 0:
        return np.sort(order), np.sort(order[: max(1, min(num_items, num_validation))])
    return np.sort(order[held:]), np.sort(order[:held])


@torch.no_grad()
def evaluate(
    tokenizer: VisualTokenizer, source: FeatureSource, held: np.ndarray, *, quantised: bool, batch_size: int = 64
) -> dict[str, Any]:
    """Return the metrics of held-out images: 1 - cos with and without codes, code usage, tokens an image, and which
    patches are kept."""
    tokenizer.eval()
    config = tokenizer.config
    counts, codes, targets, masks, chances, details = [], [], [], [], [], []
    cosines: dict[str, list[Tensor]] = {"cos_loss_before_codes": [], "cos_loss": []}
    for start in range(0, len(held), batch_size):
        x_BPD = source.batch(held[start : start + batch_size])
        log_keep = tokenizer.selector(x_BPD)
        keep = select_threshold(log_keep, config.keep_threshold, config.least_share)
        z_TC = tokenizer.project(tokenizer.merger(x_BPD, keep))
        kept = keep.sum(dim=1)
        coded, image_codes = tokenizer.quantizer(z_TC)
        for name, vectors in (("cos_loss_before_codes", z_TC), ("cos_loss", coded)):
            cosines[name].append(F.cosine_similarity(tokenizer.decoder(vectors, kept), x_BPD, dim=-1).flatten())
        counts.append(kept)
        codes.append(image_codes)
        targets.append(x_BPD)
        masks.append(keep)
        chances.append(log_keep)
        details.append(patch_detail(source.pixels.batch(held[start : start + batch_size]).numpy(), config.grid))
    code_counts = torch.bincount(torch.cat(codes).cpu(), minlength=config.codebook_size)
    share, perplexity = usage(code_counts)
    metrics: dict[str, Any] = {name: 1 - float(torch.cat(values).mean()) for name, values in cosines.items()}
    if not quantised:
        del metrics["cos_loss"]
    metrics |= {"mean_predictor": mean_predictor(torch.cat(targets)), "code_usage": share, "perplexity": perplexity}
    metrics |= factor_usage(code_counts, config.codebook_factors)
    in_kept, in_dropped = detail_of_kept(np.concatenate(details), torch.cat(masks).cpu().numpy())
    metrics |= {
        "decided": selector_explained_variance(keep_moments(torch.cat(chances))),
        "place_explained": place_explained(torch.cat(chances)[..., 0].exp().cpu().numpy()),
        "detail_kept": in_kept,
        "detail_dropped": in_dropped,
        "few_tokens": float((torch.cat(counts) < FEW_TOKENS).double().mean()),
    }
    return {**metrics, **kept_metrics(torch.cat(counts), config.num_patches), "validation_images": len(held)}


def token_facts(metrics: Mapping[str, Any], config: TokenizerConfig, *, quantised: bool) -> TokenFacts:
    """Return what the metrics of `evaluate` tell about the tokens; codes count once the codebook was trained."""
    used, num_codes = metrics["code_usage"], config.codebook_size
    if config.codebook_factors is not None:  # few of the pairs are in use when all entries are
        sizes = zip("ab", config.codebook_factors, strict=True)
        used, num_codes = min((metrics[f"code_usage_{name}"], size) for name, size in sizes)
    return TokenFacts(
        detail_kept=metrics["detail_kept"],
        detail_dropped=metrics["detail_dropped"],
        code_usage=used if quantised else None,
        num_codes=num_codes,
        num_tokens=round(metrics["kept_mean"] * metrics["validation_images"]),
        few_tokens=metrics["few_tokens"],
    )

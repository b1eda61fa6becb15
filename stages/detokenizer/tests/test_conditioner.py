"""The condition without its UNet, against the detokenizer's own."""

import shutil

import numpy as np
import torch
from lavit_core.tokens import open_tokens
from lavit_detokenizer.conditioner import load_conditioner
from lavit_detokenizer.folder import load_detokenizer
from lavit_tokenizer.api import load_tokenizer
from lavit_trainkit.testing import forget_sizes


def test_a_conditioner_needs_no_unet(world, model):
    condition = load_detokenizer(model, device="cpu").denoiser.condition
    shutil.rmtree(model / "detokenizer" / "unet")
    forget_sizes(model)
    conditioner, tokenizer = load_conditioner(model, device="cpu"), load_tokenizer(model, device="cpu", use="decode")
    codes, counts = (torch.from_numpy(values) for values in open_tokens(world / "tokens").codes(np.arange(3)))
    expected = condition(tokenizer.decode_codes(codes, counts), torch.zeros(3, dtype=torch.bool), grid=(4, 4))
    found = conditioner.prompt(tokenizer, codes, counts)
    assert found.pooled_BE is found.mask_BL is None
    assert torch.equal(found.map_BCHW, expected.map_BCHW)

"""Losses and inputs of train-encoder."""

import torch
from lavit_tokenizer.contrastive import caption_loss, clip_loss, fit_text_tokenizer, patch_pixels, text_ids


def test_clip_loss_against_plain_loops():
    image, text = (torch.nn.functional.normalize(torch.randn(4, 8), dim=1) for _ in range(2))
    scale = torch.tensor(2.0)
    logits = scale.exp() * image @ text.T
    rows = [-(logits[i, i] - logits[i].logsumexp(0)) for i in range(4)]
    columns = [-(logits[i, i] - logits[:, i].logsumexp(0)) for i in range(4)]
    torch.testing.assert_close(clip_loss(image, text, scale), (sum(rows) + sum(columns)) / 8)


def test_text_ids_cut_pad_and_survive_empty_captions():
    words = fit_text_tokenizer(iter(["a red circle", "A blue square, large"]), 64)
    ids = text_ids(words, ["a red circle", "", "a a a a a a"], 4)
    assert ids.shape == (3, 4)
    assert ids[1].tolist() == [1, 0, 0, 0]
    assert words.decode(ids[0].tolist()).split() == ["a", "red", "circle"]
    logits = torch.full((3, 4, words.get_vocab_size()), -20.0).scatter(2, ids.unsqueeze(-1), 20.0)
    assert float(caption_loss(logits, ids)) < 1e-6


def test_patch_pixels_are_in_the_features_order():
    pixels = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    pixels[0, 4:8, 8:12] = 255  # row 1, column 2 of a 4 x 4 grid
    assert patch_pixels(pixels, 4).mean(-1)[0].nonzero().flatten().tolist() == [1 * 4 + 2]

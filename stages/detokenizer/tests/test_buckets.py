"""Images of several shapes: the size each is learned at, batches of one size, training that can be killed."""

import collections
import json

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError, UsageError
from lavit_core.follow import FollowOptions
from lavit_core.images import resized_pixels
from lavit_core.seeds import shuffled_batch
from lavit_detokenizer.buckets import assign, bucket_batch
from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.draw import draw
from lavit_detokenizer.folder import load_detokenizer
from lavit_detokenizer.network import to_sample
from lavit_detokenizer.pairs import TrainingPairs
from lavit_detokenizer.sizes import nearest_size
from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.tokenize_images import tokenize_images
from lavit_trainkit.testing import metrics_of
from PIL import Image

from .conftest import FLOW, SDXL, TWO_LEVELS, check_kill_changes_nothing, settings, train

SIZES = ["16x16", "24x16", "16x24"]
SHAPES = [(20, 20), (30, 20), (20, 30), (33, 20), (20, 21), (60, 20)]
"""Width and height of the images, in turns; the last is nearest to 24x16."""
EXPECTED = [0, 1, 2, 1, 0, 1]


@pytest.fixture(scope="module")
def shapes(world, tmp_path_factory):
    """The shared tokenizer with 12 images of several shapes: data/, model/, tokens/."""
    root = tmp_path_factory.mktemp("shapes")
    random = np.random.default_rng(0)
    (root / "data" / "images").mkdir(parents=True)
    with open(root / "data" / "captions.jsonl", "w") as handle:
        for index in range(12):
            width, height = SHAPES[index % 6]
            pixels = random.integers(0, 40, (height, width, 3), dtype=np.uint8)
            pixels[height // 3 :, : width // 2, index % 3] = 220
            exif = Image.Exif()
            if index == 8:  # a photograph that was taken with the camera turned: 30 x 20 once it is upright
                pixels, exif[0x0112] = np.rot90(pixels), 6
            name = f"images/{index:03d}.{'jpg' if index == 8 else 'png'}"
            Image.fromarray(np.ascontiguousarray(pixels)).save(root / "data" / name, exif=exif)
            handle.write(json.dumps({"file_name": name, "captions": ["a block"]}) + "\n")
    (root / "model").symlink_to(world / "model")
    config = TokenizeConfig(workers=0, shard_samples=5)
    tokenize_images(root / "data", root / "model", root / "tokens", config, device="cpu", quiet=True)
    return root


def test_the_nearest_size_is_that_of_the_nearest_ratio():
    sizes = [(16, 16), (16, 24), (24, 16)]
    assert [nearest_size((height, width), sizes) for width, height in SHAPES] == EXPECTED
    # 1.22 and 1.23 lie on either side of the root of 1.5, the middle between 1 and 1.5; upright as lying.
    assert [nearest_size(one, sizes) for one in ((100, 122), (100, 123), (122, 100), (123, 100))] == [0, 1, 0, 2]
    # Exactly between two: the first of them.
    assert nearest_size((16, 16), [(16, 24), (24, 16)]) == nearest_size((16, 16), [(24, 16), (16, 24)]) == 0


def test_images_are_assigned_upright(shapes):
    files = sorted((shapes / "data" / "images").iterdir())
    found = assign(files, [(16, 16), (16, 24), (24, 16)], quiet=True)
    assert found.tolist() == 2 * EXPECTED
    assert assign(files, [(16, 16)], quiet=True).tolist() == [0] * 12
    with pytest.raises(
        InputError, match=r"setting sizes: none of 12 images is nearest in shape to 96x16; leave it out"
    ):
        assign(files, [(16, 16), (16, 24), (24, 16), (16, 96)], quiet=True)


def test_batches_are_of_one_bucket_and_show_each_image_equally_often():
    buckets = np.array([0, 1, 0, 2, 0, 1, 0, 0])
    batches = [bucket_batch(buckets, 6, step, 3) for step in range(2 * 8)]
    assert all(len(np.unique(buckets[batch])) == 1 for batch in batches)
    for epoch in (batches[:8], batches[8:]):  # each bucket as many batches as it has images
        assert collections.Counter(int(buckets[batch[0]]) for batch in epoch) == {0: 5, 1: 2, 2: 1}
        assert collections.Counter(np.concatenate(epoch).tolist()) == dict.fromkeys(range(8), 6)
    assert [batch.tolist() for batch in batches] == [bucket_batch(buckets, 6, step, 3).tolist() for step in range(16)]
    assert [batch.tolist() for batch in batches] != [bucket_batch(buckets, 6, step, 4).tolist() for step in range(16)]
    order = [int(buckets[batch[0]]) for batch in batches]
    assert order[:8] != sorted(order[:8])  # mixed, not one bucket after the other
    for step in range(5):
        assert (bucket_batch(np.zeros(8), 3, step, 3) == shuffled_batch(8, 3, step, 3)).all()


CROSS = {"kind": "cross", "cross_dims": (8,), "standardise": True}


@pytest.mark.parametrize("network", [{}, {**FLOW, "condition": CROSS}, FLOW], ids=["unet", "transformer", "map"])
def test_killed_and_run_again_equals_uninterrupted(shapes, tmp_path, monkeypatch, network):
    check_kill_changes_nothing(shapes, tmp_path, monkeypatch, config=settings(sizes=SIZES, **network))
    made = load_detokenizer(tmp_path / "cut" / "model", device="cpu")
    assert made.config.sizes == tuple(SIZES)
    for size, expected in (("24x16", (16, 24)), ("16x24", (24, 16)), ("16x16", (16, 16)), (None, (16, 16))):
        how = DrawSettings(num_steps=2, size=size)
        assert draw(made, torch.randn(2, 16, 16), seeds=[1, 2], settings=how).shape == (2, *expected, 3)
    with pytest.raises(UsageError, match=r"started with config\.sizes"):
        train(shapes, tmp_path / "cut", config=settings(sizes=SIZES[:2], **network))


@pytest.mark.parametrize("cache_bytes", [1 << 20, 0])
def test_what_is_learned_is_the_whole_image_at_its_size(shapes, tmp_path, monkeypatch, cache_bytes):
    files, shown = sorted((shapes / "data" / "images").iterdir()), collections.Counter()
    clean = TrainingPairs.clean

    def watched(self, indices, rows, **drawn):
        found = clean(self, indices, rows, **drawn)
        height, width = self.size_px(indices)
        assert f"{width}x{height}" == SIZES[EXPECTED[indices[0] % 6]]
        pixels = np.stack([resized_pixels(files[index], (height, width)) for index in indices[rows]])
        assert torch.equal(found, to_sample(torch.from_numpy(pixels), 4))
        shown.update(indices[rows].tolist())
        return found

    monkeypatch.setattr(TrainingPairs, "clean", watched)
    train(shapes, tmp_path / "run", config=settings(sizes=SIZES, num_steps=12, cache_bytes=cache_bytes))
    assert shown == dict.fromkeys(range(12), 4)  # 12 steps of 4 images of 12


@pytest.mark.parametrize("cache_bytes", [1 << 20, 0])
def test_sdxl_learns_its_size_ids_with_the_size(shapes, vae_folder, tmp_path, monkeypatch, cache_bytes):
    told = []
    forward = torch.nn.Module.__call__

    def watched(self, *inputs, **named):
        if "added_cond_kwargs" in named:
            height, width = (2 * side for side in inputs[0].shape[-2:])
            ids = named["added_cond_kwargs"]["time_ids"]
            assert ids.tolist() == [[height, width, 0, 0, height, width]] * 4
            told.append((height, width))
        return forward(self, *inputs, **named)

    monkeypatch.setattr(torch.nn.Module, "__call__", watched)
    config = settings(**{**SDXL, "image_px": 16, "sizes": SIZES, "cache_bytes": cache_bytes, "num_steps": 12})
    train(shapes, tmp_path / "run", config=config, vae=vae_folder)
    # As many batches as a size has images.
    assert collections.Counter(told) == {(16, 16): 4, (16, 24): 6, (24, 16): 2}
    made = load_detokenizer(tmp_path / "run" / "model", device="cpu")
    # What was trained is drawn, not the published sizes.
    with pytest.raises(UsageError, match="--aspect-ratio 4:3: this detokenizer draws 16x16, 24x16, 16x24 px; ask with"):
        draw(made, torch.randn(1, 16, 16), seeds=[0], settings=DrawSettings(num_steps=1, aspect_ratio="4:3"))


def test_sample_images_show_every_size(shapes, tmp_path):
    train(shapes, tmp_path / "run", config=settings(sizes=SIZES), follow=FollowOptions(sample_every=8))
    [sheet] = (tmp_path / "run" / "samples").iterdir()
    # Eight pairs, four panels a row: squares and wide ones, of 24 x 16 px eight times as large.
    assert Image.open(sheet).size == (4 * (192 + 8) - 8, 4 * (128 + 8) - 8)


def test_one_square_in_sizes_is_the_square(shapes, tmp_path):
    train(shapes, tmp_path / "none", config=settings())
    train(shapes, tmp_path / "one", config=settings(sizes=["16x16"]))
    assert metrics_of(tmp_path / "none") == metrics_of(tmp_path / "one")
    found, expected = (
        (tmp_path / name / "model" / "detokenizer" / "config.json").read_text() for name in ("none", "one")
    )
    assert json.loads(expected) == {**json.loads(found), "sizes": ["16x16"]}
    assert "sizes" not in found
    assert "sizes" not in (tmp_path / "none" / "config.yaml").read_text()


def test_sizes_that_cannot_be_are_refused(shapes, tmp_path):
    with pytest.raises(ValueError, match="sizes 16x16, 16x16: one stands twice"):
        settings(sizes=["16x16", "16x16"])
    with pytest.raises(ValueError, match="string_pattern_mismatch"):
        settings(sizes=["16 x 16"])
    with pytest.raises(UsageError, match="setting sizes: images of 30x16 px: expected multiples of the downsampling"):
        train(shapes, tmp_path / "a", config=settings(sizes=["16x16", "30x16"]))
    wide = {**FLOW, "transformer": {**FLOW["transformer"], "patch_size": 2}}
    with pytest.raises(UsageError, match=r"setting sizes: 20x16 is a grid of 5 x 4, expected .* patch_size 2"):
        train(shapes, tmp_path / "b", config=settings(sizes=["16x16", "20x16"], **wide))
    with pytest.raises(InputError, match="none of 12 images is nearest in shape to 16x64"):
        train(shapes, tmp_path / "c", config=settings(sizes=["16x16", "16x24", "16x64"]))


def test_a_plan_counts_the_largest_size(shapes):
    from lavit_detokenizer.plan import plan

    square = plan(settings(unet=TWO_LEVELS), shapes / "tokens", shapes / "model")
    sized = plan(settings(unet=TWO_LEVELS, sizes=["16x16", "24x16"]), shapes / "tokens", shapes / "model")
    assert (square["sample_shape"], sized["sample_shape"]) == ([48, 4, 4], [48, 4, 6])
    flops = [one["cost"]["steps"]["train-detokenizer"]["flops_per_step"] for one in (square, sized)]
    assert 1.4 < flops[1] / flops[0] < 1.6


def test_a_signal_while_sizes_are_read_says_so(shapes, monkeypatch):
    from lavit_detokenizer import buckets

    monkeypatch.setattr(buckets, "stop_requested", lambda: True)
    files = sorted((shapes / "data" / "images").iterdir())
    with pytest.raises(buckets.Interrupted, match="sizes: at image 1 of 12, before the first step"):
        assign(files, [(16, 16), (16, 24)], quiet=True)

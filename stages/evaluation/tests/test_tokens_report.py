"""Token metrics, each against a value worked out by hand."""

import math

import pytest
from lavit_evaluation.shapes.tokens_report import kept_by_place, patch_cover
from lavit_shapes.scenes import Scene


def test_patch_cover_is_the_covered_area(two_objects: Scene) -> None:
    cover = patch_cover(two_objects, (8, 8), scene_px=64)
    area = math.pi * 10**2 + math.pi * 15**2
    assert cover.sum() * 64 == pytest.approx(area, rel=0.01)
    assert cover.reshape(8, 8)[0].sum() == 0
    keep = (cover > 0)[None]
    metrics = kept_by_place(keep, cover[None])
    assert [metrics[f"tokens.kept_{place}"].value for place in ("on_shapes", "on_edges", "on_background")] == [1, 1, 0]
    assert sum(metric.n for metric in metrics.values()) == 64

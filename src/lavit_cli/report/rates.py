"""What `lavit eval rate-distortion` measured, as curves over tokens an image."""

from collections.abc import Mapping
from typing import Any

from lavit_cli.report.curves import lines

METHODS = ("learned", "topk", "random")
TITLES = {"psnr_db": "PSNR in dB", "ssim": "SSIM", "feature_error": "1 - cos of decoded features"}


def rate_charts(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one SVG a metric with a line for each selection; none for the metrics of other benchmarks."""
    drawn = []
    for name, title in TITLES.items():
        series = {method: _points(metrics, method, name) for method in METHODS}
        if all(len(points) > 1 for points in series.values()):
            drawn.append(lines(title, series, "tokens an image", values=True))
    return drawn


def _points(metrics: Mapping[str, Mapping[str, Any]], method: str, metric: str) -> list[tuple[float, float]]:
    rates = sorted(
        int(path[1]) for path in (name.split(".") for name in metrics)
        if len(path) == 3 and path[0] == method and path[1].isdecimal() and path[2] == metric
    )  # fmt: skip
    return [(float(rate), float(metrics[f"{method}.{rate}.{metric}"]["value"])) for rate in rates]

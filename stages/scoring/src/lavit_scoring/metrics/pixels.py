"""How far two images are apart, pixel by pixel: L1, L2 (mean squared) and SSIM on the [0, 1] scale, PSNR in dB."""

import numpy as np

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def l1_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean absolute difference of two uint8 images [H, W, 3], 0 to 1."""
    return float(np.abs(first.astype(np.float64) - second).mean() / 255)


def l2_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean squared difference of two uint8 images [H, W, 3], 0 to 1, as MagicBrush's script has it."""
    return float(((first.astype(np.float64) - second) ** 2).mean() / 255**2)


def psnr(drawn: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio in dB of each uint8 image [N, H, W, 3]; equal images count as 99."""
    error = ((drawn.astype(np.float64) - real.astype(np.float64)) ** 2).mean((1, 2, 3))
    return np.where(error > 0, 10 * np.log10(255.0**2 / np.maximum(error, 1e-12)), 99.0)


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Return the structural similarity of two uint8 images [H, W, 3] of at least 11 pixels a side, 1 for equal ones.

    Gaussian window of 11 pixels (sigma 1.5), K1 0.01, K2 0.03, windows inside the image only, mean over windows and
    colours. Source: Wang et al. 2004, equation 13.
    """
    x, y = first.astype(np.float64) / 255, second.astype(np.float64) / 255
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    map_HWC = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    map_HWC /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(map_HWC.mean())


def _blur(image: np.ndarray) -> np.ndarray:
    """Return Gaussian means [H - 10, W - 10, C]: one pass down, one across."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    height, width = image.shape[0] - WINDOW + 1, image.shape[1] - WINDOW + 1
    down = sum(weight * image[n : n + height] for n, weight in enumerate(weights))
    return np.asarray(sum(weight * down[:, n : n + width] for n, weight in enumerate(weights)))

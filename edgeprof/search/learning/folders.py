"""Data in folders: one for each class, with images or wav files in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprof.errors import UsageError

__all__ = ["log_mel", "of_folder", "preparation"]

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
PARTS = ("train", "valid", "test")
ENDINGS = {"images": (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"), "sound": (".wav",)}
SIDE = 32
# A decoded set is held in memory.
MOST_BYTES = 4 * 1024**3
# Sound: windows of 30 ms every 10 ms, as keyword spotting has them (Zhang et al., Hello Edge, 2017), and so many bands.
WINDOW_S, HOP_S, BANDS = 0.030, 0.010, 40
LOUDNESS_FLOOR = 1e-6
LOWEST_HZ = 20.0


def of_folder(folder: Path, kind: str, side: int | None) -> tuple[dict[str, tuple[Array, Labels]], tuple[str, ...]]:
    """The parts of a folder (all of it as "", or train, valid and test where there are such folders), and its classes.

    Raises:
        UsageError: it has no classes, or a file that cannot be read.
    """
    if kind not in ENDINGS:
        raise UsageError(f"no kind of data {kind!r}", f"it is {' or '.join(ENDINGS)}")
    parts = [part for part in PARTS if (folder / part).is_dir()] or [""]
    classes = sorted({one.name for part in parts for one in (folder / part).iterdir() if one.is_dir()})
    if len(classes) < 2:
        raise UsageError(
            f"{folder} has {len(classes)} folders of classes", "put the files of each class in one of its own"
        )
    read = _read_image(side or SIDE) if kind == "images" else _read_sound
    found = {}
    for part in parts:
        files = [
            (path, number)
            for number, name in enumerate(classes)
            for path in sorted((folder / part / name).glob("*"))
            if path.suffix.lower() in ENDINGS[kind]
        ]
        if not files:
            raise UsageError(f"{folder / part} has no {kind} in its folders", f"they end in {', '.join(ENDINGS[kind])}")
        found[part] = (_together([read(path) for path, _ in files], folder), np.array([label for _, label in files]))
    return found, tuple(classes)


def preparation(kind: str, side: int | None) -> str:
    """What is done to a file before anything else, in words."""
    if kind == "images":
        size = side or SIDE
        return f"make the image RGB and {size} x {size} (bilinear, as Pillow does it), and divide its values by 255"
    return (
        f"take the mean of the wav file's channels as numbers from -1 to 1; of Hann windows of {WINDOW_S * 1e3:g} ms "
        f"every {HOP_S * 1e3:g} ms the power spectrum over the window's length; of it {BANDS} triangles on the mel "
        f"scale from {LOWEST_HZ:g} Hz to half the rate, and the logarithm of each plus {LOUDNESS_FLOOR:g}; repeat the "
        "last window up to the length of the longest sample (log_mel in edgeprof.search.learning.folders)"
    )


def _together(samples: Sequence[Array], folder: Path) -> Array:
    """As one array; shorter sounds have silence behind them."""
    length = max(one.shape[-1] for one in samples)
    if 4 * len(samples) * samples[0].size > MOST_BYTES:
        raise UsageError(
            f"{folder} takes more than {MOST_BYTES // 1024**3} GiB in memory", "use fewer or smaller files"
        )
    padded = [np.pad(one, ((0, 0), (0, 0), (0, length - one.shape[-1])), mode="edge") for one in samples]
    return np.stack(padded)


def _read_image(side: int) -> Callable[[Path], Array]:
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("images are read by Pillow, which is not there", "pip install 'edgeprof[search]'") from error

    def read(path: Path) -> Array:
        try:
            with Image.open(path) as image:
                small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
                return np.asarray(small, dtype=np.float32).transpose(2, 0, 1) / 255.0
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"{path} is no image that can be read: {error}", "mend it or take it out") from error

    return read


def _read_sound(path: Path) -> Array:
    from scipy.io import wavfile

    try:
        rate, samples = wavfile.read(path)
    except Exception as error:  # the reader fails in many ways
        raise UsageError(f"{path} is no wav file that can be read: {error}", "mend it or take it out") from error
    if samples.ndim > 1:
        samples = samples.mean(axis=1)
    full_scale = float(np.iinfo(samples.dtype).max) if np.issubdtype(samples.dtype, np.integer) else 1.0
    return log_mel(samples.astype(np.float64) / full_scale, int(rate))


def log_mel(samples: NDArray[np.float64], rate: int) -> Array:
    """The loudness of `BANDS` bands on the mel scale over time, (bands, 1, length): an image of height 1.

    Stevens, Volkmann and Newman's scale in the form of O'Shaughnessy: 2595 log10(1 + f / 700).
    """
    window, hop = max(2, int(WINDOW_S * rate)), max(1, int(HOP_S * rate))
    if len(samples) < window:
        samples = np.pad(samples, (0, window - len(samples)))
    n_windows = 1 + (len(samples) - window) // hop
    frames = np.stack([samples[k * hop : k * hop + window] for k in range(n_windows)]) * np.hanning(window)
    power = np.abs(np.fft.rfft(frames)) ** 2 / window
    loud = np.log(power @ _bands(power.shape[1], rate) + LOUDNESS_FLOOR)
    return loud.T[:, None].astype(np.float32)


def _bands(n_bins: int, rate: int) -> NDArray[np.float64]:
    """Triangles on the mel scale, (bins, bands)."""
    highest = rate / 2
    lowest_mel, highest_mel = (float(2595 * np.log10(1 + f / 700)) for f in (LOWEST_HZ, highest))
    mel = np.linspace(lowest_mel, highest_mel, BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.linspace(0, highest, n_bins)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    found: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return found

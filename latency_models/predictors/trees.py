"""Boosted trees (LightGBM), which see thresholds: kernels of another kind above a size, tiles that are not full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import lightgbm

__all__ = ["MissingLibrary", "Trees"]

Array = NDArray[np.float64]
# Chosen before any data was seen, for some hundred to some thousand samples.
SETTINGS = {
    "objective": "huber",
    "alpha": 0.3,
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 5,
    "min_data_in_bin": 1,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "max_bin": 255,
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
}
ROUNDS = 400


class MissingLibrary(ImportError):
    """LightGBM, or the library of the system that it needs, is not there."""


@dataclass
class Trees:
    """A fitted ensemble as LightGBM's own text."""

    text: str

    def __post_init__(self) -> None:
        self._booster: lightgbm.Booster | None = None

    @classmethod
    def fit(cls, x: Array, y: Array, weights: Array, seed: int = 0, rounds: int = ROUNDS) -> Trees:
        """Fit to `y` (n,) at `x` (n, d) with `weights` (n,).

        Raises:
            MissingLibrary: LightGBM cannot be loaded.
        """
        library = _library()
        data = library.Dataset(x, y, weight=weights, free_raw_data=True)
        # Else it is written as text and read again before it is returned.
        kept = {"num_boost_round": rounds, "keep_training_booster": True}
        booster = library.train({**SETTINGS, "seed": seed}, data, **kept)
        return cls(booster.model_to_string())

    def predict(self, x: Array) -> Array:
        """The prediction at `x` (m, d).

        Raises:
            MissingLibrary: LightGBM cannot be loaded.
        """
        if self._booster is None:
            self._booster = _library().Booster(model_str=self.text)
        return np.asarray(self._booster.predict(x, num_threads=1), dtype=np.float64)


def _library() -> Any:
    try:
        import lightgbm
    except OSError as error:
        raise MissingLibrary(f"LightGBM cannot be loaded: {error}; install libgomp1 (apt install libgomp1)") from error
    except ImportError as error:
        raise MissingLibrary("LightGBM is not installed: pip install lightgbm") from error
    return lightgbm

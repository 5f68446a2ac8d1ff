"""The classifier of docs/examples/digits_classifier.py, for tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "digits_classifier.py"


def small_classifier() -> Any:
    """Made once in a process; takes a second or two."""
    module = sys.modules.get(EXAMPLE.stem)
    if module is None:
        spec = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[EXAMPLE.stem] = module
        spec.loader.exec_module(module)
    return module.small_classifier()

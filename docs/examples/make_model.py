"""Write the small example network: python make_model.py model.onnx."""

import sys
from pathlib import Path

from edgeprof.models.example import write_example

write_example(Path(sys.argv[1]))

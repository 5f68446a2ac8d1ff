"""Search spaces that come along."""

from edgeprof.search.spaces.nasbench201 import NasBench201
from edgeprof.search.spaces.once_for_all import OnceForAll, Stage
from edgeprof.search.spaces.sound import Sound
from edgeprof.search.spaces.transformer import Transformer

__all__ = ["NasBench201", "OnceForAll", "Sound", "Stage", "Transformer"]

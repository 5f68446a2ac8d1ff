"""How long to wait for a device: one `Deadlines` for its link and for the agent on it."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Deadlines", "Seconds"]

# Finite, so that every wait has an end; a million seconds are eleven days.
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class Deadlines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Seconds to wait for what.

    `connect_s` for each step of connecting and of opening a channel; `start_s` for the first line of a program;
    `transfer_s` for an upload, beside what its size allows it; `answer_s` for an answer that needs no work;
    `silence_s` without a sign of life from a working agent, or without progress of an upload.
    """

    connect_s: Seconds = 10.0
    start_s: Seconds = 60.0
    transfer_s: Seconds = 600.0
    answer_s: Seconds = 60.0
    heartbeat_s: Seconds = 5.0
    silence_s: Seconds = 30.0

    @property
    def beat_s(self) -> float:
        """After how long without a word to ask whether the agent is there: several times before it is given up."""
        return min(self.heartbeat_s, self.silence_s / 3)

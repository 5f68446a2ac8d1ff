"""The faults that a campaign must survive on any machine with an sshd, in the order of the page."""

from __future__ import annotations

from tests.faults.controller_faults import CONTROLLER_FAULTS
from tests.faults.device_faults import DEVICE_FAULTS
from tests.faults.fault import Fault
from tests.faults.link_faults import LINK_FAULTS

__all__ = ["FAULTS"]

FAULTS: tuple[Fault, ...] = (*LINK_FAULTS, *DEVICE_FAULTS, *CONTROLLER_FAULTS)

"""Many jobs on many devices: plan, interleave, retry, resume. A campaign's state is in the store, row by row."""

from __future__ import annotations

from edgeprof.campaign.controller import Controller, Ending, Place, left_states, new_campaign
from edgeprof.campaign.cost import CampaignCost, campaign_cost
from edgeprof.campaign.outline import LeftOut, Outline, choose_devices, draw_up, read_models, unchanged
from edgeprof.campaign.plan import Configuration, Plan, plan_of, read_plan

__all__ = [
    "CampaignCost",
    "Configuration",
    "Controller",
    "Ending",
    "LeftOut",
    "Outline",
    "Place",
    "Plan",
    "campaign_cost",
    "choose_devices",
    "draw_up",
    "left_states",
    "new_campaign",
    "plan_of",
    "read_models",
    "read_plan",
    "unchanged",
]

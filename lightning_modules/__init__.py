"""One LightningModule per method."""

from lightning_modules.base import PersonalisationModule
from lightning_modules.spotdiff import SpotDiff

__all__ = ["PersonalisationModule", "SpotDiff"]

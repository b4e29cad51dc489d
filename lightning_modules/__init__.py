"""One LightningModule per method."""

from lightning_modules.base import PersonalisationModule
from lightning_modules.dreambooth_lora import DreamBoothLoRA
from lightning_modules.ip_adapter import IPAdapter
from lightning_modules.ip_adapter_faceid import IPAdapterFaceID
from lightning_modules.ip_adapter_plus import IPAdapterPlus
from lightning_modules.pidiff import PIDiff
from lightning_modules.sefi_ide import SefiIDE
from lightning_modules.spotdiff import SpotDiff
from lightning_modules.textual_inversion import TextualInversion

__all__ = [
    "DreamBoothLoRA",
    "IPAdapter",
    "IPAdapterFaceID",
    "IPAdapterPlus",
    "PIDiff",
    "PersonalisationModule",
    "SefiIDE",
    "SpotDiff",
    "TextualInversion",
]

"""Where the attention of a subject's tokens lies: the share that lies on the subject."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from contracts.files import cache_folder
from contracts.prompts import OWN
from datamodules.features.crops import SQUARE_MASK
from datamodules.image_io import read_square
from datamodules.index import by_subject, held_out_of, load_photos, read_photos
from datamodules.sources import find_shards
from lightning_modules.sefi_ide import SefiIDE
from networks.attention import taken_notes
from networks.keyed_noise import keyed_normal
from networks.stage_attention import ComparedConditioning

PROMPT = "a photo of a <subject>"
PHOTOS = 4
TIMESTEPS = (100, 300, 500, 700, 900)


@torch.no_grad()
def attention_focus(module: SefiIDE, subjects: Sequence[str]) -> NDArray[np.float64]:
    """Share (S,) in 0..1 of the placeholder's attention inside each subject's mask, in the layers that the loss reads.

    Measured on noised held-out photos of the subjects, over all denoising stages.
    """
    photos = by_subject(load_photos(find_shards("pocket10k"), cache_folder()))
    shares = []
    for subject in subjects:
        held_out = list(read_photos(held_out_of(photos[subject])[:PHOTOS]))
        side = module.backbone.resolution
        images = np.stack([read_square(p.image, p.photo.id, side) for p in held_out])
        masks = np.stack([SQUARE_MASK.of_photo(p, side) for p in held_out])
        inside = F.interpolate(
            torch.from_numpy(masks)[:, None].float() / 255, size=(module.attention_side,) * 2, mode="area"
        ).flatten(1)
        shares.append(np.mean([_share(module, subject, images, inside, t) for t in TIMESTEPS]))
    return np.array(shares)


def _share(module: SefiIDE, subject: str, images: np.ndarray, inside: torch.Tensor, t: int) -> float:
    """At one timestep; ``inside`` (B, cells) is the mask on the layers' grid."""
    text, values = module.encode_prompt(PROMPT, subject)
    conditioning = ComparedConditioning.from_stages(
        [text] * len(images),
        values.expand(len(images), -1, -1, -1),
        reference=text.states[:1].expand(len(images), -1, -1),
        side=module.attention_side,
    )
    moments = module.backbone.encode_moments(images)
    noise = keyed_normal((len(images), *module.backbone.latent_shape), "focus", subject, t)
    z = module.backbone.latents_from_moments(moments, torch.zeros_like(noise))
    times = torch.full((len(images),), t)
    module.denoise(module.noising.add_noise(z, noise, times), times, conditioning)
    noun = {OWN: module.subjects.nouns[subject]}
    positions = list(module.place(PROMPT, noun).positions[OWN])
    maps = taken_notes(module.backbone.unet)
    attended = torch.stack([found[..., positions].sum(dim=-1).mean(dim=1) for found, _ in maps]).mean(dim=0)
    return float(((attended * inside).sum(dim=1) / attended.sum(dim=1)).mean())

"""What the benchmarks run: SpotDiff on the shipped pocket models or on small ones, and batches of the right shapes."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from contracts.batch import PairBatch, RequestBatch
from contracts.text import Text
from lightning_modules.spotdiff import SpotDiff
from networks.backbone import Backbone, load_backbone
from networks.clip_image import ClipImageEncoder, load_clip_image
from networks.pretrained import load_tokenizer
from networks.text_encoders import TextEncoders
from pocket.models.paths import BASE, CLIP

SMALL_WIDTH = 32


def pocket_models() -> tuple[Backbone, ClipImageEncoder]:
    """The shipped base model and the image tower of the shipped CLIP."""
    return load_backbone(str(BASE)), load_clip_image(str(CLIP))


def small_backbone() -> Backbone:
    """A base model of the smallest size with random weights, always the same, for what batching gains.

    That gain is how far a batch of one leaves the processor idle, so it depends on the network: the smaller, the
    larger. A fixed network makes the figure mean the same everywhere.
    """
    tokenizer = load_tokenizer(BASE, "tokenizer")
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=SMALL_WIDTH,
        intermediate_size=2 * SMALL_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        **ids,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Backbone(
            vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
            text=TextEncoders([CLIPTextModel(config)], [tokenizer]),
            unet=UNet2DConditionModel(
                sample_size=8,
                layers_per_block=1,
                block_out_channels=(16, 32),
                down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
                cross_attention_dim=SMALL_WIDTH,
                attention_head_dim=2,
                norm_num_groups=4,
            ),
            scheduler=DDIMScheduler(),
            fingerprint="small",
        )


def spotdiff(backbone: Backbone, image_width: int) -> SpotDiff:
    """An untrained SpotDiff with the same weights at every call."""
    torch.manual_seed(0)
    return SpotDiff(backbone, image_width)


def pair_batch(model: SpotDiff, size: int, image_width: int) -> PairBatch:
    """A batch of noise with the shapes of cached features."""
    channels, height, width = model.backbone.latent_shape
    generator = torch.Generator().manual_seed(1)
    latents = (size, channels, height, width)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return PairBatch(
        sample_ids=tuple(f"b{i:04d}" for i in range(size)),
        moments=normal(size, 2 * channels, height, width),
        latent_noise=normal(*latents),
        noise=normal(*latents),
        timestep=torch.randint(1000, (size,), generator=generator),
        text_states=Text(normal(size, *_text_shape(model.backbone))),
        drop_identity=torch.arange(size) % 8 == 7,
        reference={"clip": normal(size, image_width)},
        second_view={"clip": normal(size, image_width)},
        mask=torch.ones(size, 1, height, width),
    )


def request_batch(model: SpotDiff, size: int, image_width: int) -> RequestBatch:
    """Requests with noise in place of text states and features."""
    generator = torch.Generator().manual_seed(2)
    return RequestBatch(
        request_ids=tuple(f"b{i:04d}" for i in range(size)),
        subjects=("s0000",) * size,
        prompts=("a photo of <subject>",) * size,
        noise=torch.randn((size, *model.backbone.latent_shape), generator=generator),
        text_states=Text(torch.randn((size, *_text_shape(model.backbone)), generator=generator)),
        reference={"clip": torch.randn((size, image_width), generator=generator)},
    )


def one_request(batch: RequestBatch, index: int) -> RequestBatch:
    """Request ``index`` as a batch of its own."""
    one = slice(index, index + 1)
    return RequestBatch(
        request_ids=batch.request_ids[one],
        subjects=batch.subjects[one],
        prompts=batch.prompts[one],
        noise=batch.noise[one],
        text_states=batch.text_states[one],
        reference={name: value[one] for name, value in batch.reference.items()},
    )


def _text_shape(backbone: Backbone) -> tuple[int, int]:
    return backbone.tokenizer.model_max_length, backbone.unet.config.cross_attention_dim

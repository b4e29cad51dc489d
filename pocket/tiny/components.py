"""Real components at the smallest size that works, with random weights.

What each function writes is loaded by the same code as the pocket world's and the real weights.
"""

import warnings
from pathlib import Path

import onnx
import torch
from datasets import Dataset
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from datamodules.schema import features
from networks.e4e import E4E
from networks.stylegan2 import StyleGAN2
from networks.wplus import save_wplus
from pocket.models.base_model import assemble
from pocket.models.faces import PARTS_FILE, export_pack, export_parts_reader
from pocket.models.tokenizer import build_tokenizer
from pocket.render.dataset import Grid, rows_of

SIDE = 64  # pixels
LATENT_SIDE = 16
TEXT_LENGTH = 24
TEXT_WIDTH = 32
CAPTIONS = [
    "a photo of a person, wearing a red top hat, in a garden",
    "a pencil sketch of a person on a beach",
    "an oil painting of a person at sunset",
]


def tiny_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer over a few captions, saved in ``folder`` too."""
    build_tokenizer(CAPTIONS, folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=TEXT_LENGTH)
    tokenizer.save_pretrained(folder)
    return tokenizer


def tiny_clip(folder: Path) -> Path:
    """A folder with a CLIP of one layer per tower, its tokenizer and image processor."""
    tokenizer = tiny_tokenizer(folder)
    text = _text(tokenizer)
    vision = {**_SMALL, "image_size": SIDE, "patch_size": 16, "projection_dim": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(
            CLIPConfig(text_config={**text, "projection_dim": 16}, vision_config=vision, projection_dim=16)
        )
    model.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(folder)
    return folder


def tiny_base(folder: Path, seed: int = 0) -> Path:
    """A ``StableDiffusionPipeline`` folder with latents 4 x 16 x 16; another seed gives another base model."""
    tokenizer = tiny_tokenizer(folder / "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = _vae()
        unet = UNet2DConditionModel(
            sample_size=LATENT_SIDE,
            layers_per_block=1,
            block_out_channels=(16, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        text_encoder = CLIPTextModel(CLIPTextConfig(**_text(tokenizer)))
    assemble(vae, text_encoder, tokenizer, unet).save_pretrained(folder)
    return folder


def tiny_sdxl(folder: Path, seed: int = 0) -> Path:
    """A ``StableDiffusionXLPipeline`` folder in the shape of SDXL: two text encoders that pad in their own ways, pooled
    text and sizes, blocks of several attention layers, linear projections and its scheduler; latents 4 x 16 x 16."""
    tokenizer = tiny_tokenizer(folder / "tokenizer")
    second = CLIPTokenizer.from_pretrained(folder / "tokenizer", pad_token="!")
    widths, pooled, per_size = (TEXT_WIDTH, 24), 20, 8
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=LATENT_SIDE,
            layers_per_block=1,
            block_out_channels=(16, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            cross_attention_dim=sum(widths),
            attention_head_dim=(2, 4),
            norm_num_groups=4,
            addition_embed_type="text_time",
            addition_time_embed_dim=per_size,
            projection_class_embeddings_input_dim=pooled + 6 * per_size,
        )
        small = [{**_text(tokenizer), "num_hidden_layers": 2, "hidden_size": width} for width in widths]
        encoders = (
            CLIPTextModel(CLIPTextConfig(**small[0])),
            CLIPTextModelWithProjection(
                CLIPTextConfig(**small[1] | {"projection_dim": pooled, "pad_token_id": second.pad_token_id})
            ),
        )
        noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        StableDiffusionXLPipeline(
            vae=_vae(scaling_factor=0.13025),
            text_encoder=encoders[0],
            text_encoder_2=encoders[1],
            tokenizer=tokenizer,
            tokenizer_2=second,
            unet=unet,
            scheduler=EulerDiscreteScheduler(**noise, timestep_spacing="leading", steps_offset=1),
            add_watermarker=False,
        ).save_pretrained(folder)
    return folder


class _BrightMouth(nn.Module):
    """Reads eyes and nose in every crop, and a mouth in bright ones."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        level = crops.mean(dim=(1, 2, 3))
        return torch.stack([level + 2, level + 2, level + 2, 50 * level], dim=1).sigmoid()


def tiny_faces(folder: Path, parts: bool = False) -> Path:
    """A face pack that sees one face in the middle of every image that is not darker than dark grey, at 128 pixels.

    With ``parts`` it reads eyes and nose in all of them, and mouths in bright ones.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recogniser = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * 14 * 14, 512)).eval()
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch has a newer exporter, which needs more packages
        export_pack(_CentreDetector(), recogniser, folder)  # type: ignore[arg-type]
        if parts:
            export_parts_reader(_BrightMouth(), folder / PARTS_FILE)
    detector = onnx.load(folder / "detection.onnx")
    for axis in detector.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_value = 128
    onnx.save(detector, folder / "detection.onnx")
    return folder


def tiny_vit(folder: Path) -> Path:
    """A folder with a ViT without a pooler, as DINO's weights are published."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ViTModel(ViTConfig(**sizes, image_size=32, patch_size=16), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def tiny_segmenter(file: Path, side: int | str = 32, channels: int = 1, **metadata: str) -> Path:
    """A segmentation model that takes what is bright, by its input's mean over the colours, for the object.

    Its output are logits, or those of two classes, the background first. ``metadata`` say how its input is normalised.
    """
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["brightness"], axes=[1], keepdims=1),
        helper.make_node("Constant", [], ["steep"], value_float=50.0),
        helper.make_node("Mul", ["brightness", "steep"], ["bright"]),
        helper.make_node("Neg", ["bright"], ["dark"]),
        helper.make_node("Concat", ["dark", "bright"][2 - channels :], ["mask"], axis=1),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])
    made = helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, channels, side, side])
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(nodes, "segmenter", [given], [made]), opset_imports=opset, ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, file)
    return file


ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
"""Convolutions (out, in, kernel) by their number in torchvision's AlexNet."""


def random_lpips(file: Path) -> Path:
    """AlexNet's convolutions by torchvision's names and LPIPS's channel weights by the authors', at random."""
    draws = torch.Generator().manual_seed(0)
    weights = {}
    for tap, (layer, (out, inside, kernel)) in enumerate(ALEXNET.items()):
        weights[f"features.{layer}.weight"] = torch.randn(out, inside, kernel, kernel, generator=draws) / 30
        weights[f"features.{layer}.bias"] = torch.randn(out, generator=draws) / 10
        weights[f"lin{tap}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=draws)
    save_file(weights, file)
    return file


def tiny_wplus(folder: Path, seed: int = 0) -> Path:
    """An e4e and a StyleGAN2 of 64 pixels, 10 rows of width 8; another seed gives other weights and mean code."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = StyleGAN2(SIDE, 8, 1, (8, 8, 8, 8, 8))
        encoder = E4E(generator.rows, 8, SIDE, ((4, 1), (8, 1), (8, 1), (8, 1))).eval()
        save_wplus(folder, encoder, generator, torch.randn(generator.rows, 8))
    return folder


def tiny_dataset(folder: Path) -> Path:
    """Two test subjects x 3 poses x 3 backgrounds in the dataset schema, so four held-out photos each."""
    grid = Grid(20, 3, 3)
    rows = [row for subject in (18, 19) for row in rows_of(subject, grid)]
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features()).to_parquet(folder / "test.parquet")
    return folder


_SMALL = {"hidden_size": TEXT_WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def _vae(**settings: float) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=SIDE,
        **settings,
    )


def _text(tokenizer: CLIPTokenizer) -> dict:
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return {**_SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": TEXT_LENGTH, **ids}


class _CentreDetector(nn.Module):
    """SCRFD's nine outputs for an input of 128 pixels, with at most one face."""

    one: Tensor
    box: Tensor
    marks: Tensor

    def __init__(self) -> None:
        super().__init__()
        one = torch.zeros(1, 32, 1)
        one[0, 10] = 1.0  # the cell whose corner lies at x = y = 32
        box = torch.tensor([12.0, 12.0, 76.0, 76.0]) / 32
        eyes_nose_mouth = torch.tensor([14.0, 22.0, 50.0, 22.0, 32.0, 40.0, 18.0, 56.0, 46.0, 56.0]) / 32
        for name, value in (("one", one), ("box", box), ("marks", eyes_nose_mouth)):
            self.register_buffer(name, value)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, 128, 128) in -1..1 to scores, boxes and landmarks of strides 8, 16 and 32, two anchors a cell."""
        cells = (512, 128, 32)
        brightness = image.mean()
        found = torch.sigmoid(50 * (brightness + 0.8))
        scores = [torch.zeros(1, n, 1) * brightness for n in cells[:2]] + [self.one * found]
        boxes = [self.box.expand(1, n, 4) + 0 * brightness for n in cells]
        marks = [self.marks.expand(1, n, 10) + 0 * brightness for n in cells]
        return (*scores, *boxes, *marks)

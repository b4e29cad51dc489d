"""A base model in the shape of SDXL: what goes into it is what the stock pipeline gives it, to the last bit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from contracts.errors import LikenessError
from datamodules.requests import request_batch
from leaderboard.generate.generation import PromptOnly
from networks.backbone import Backbone, empty_backbone, load_backbone, text_fingerprint
from networks.placeholders import place_subjects, single_token
from networks.precision import hold_frozen
from networks.sampler import SamplingSettings
from pocket.tiny.components import SIDE, TEXT_LENGTH

PROMPTS = ["a photo of a person on a beach", "an oil painting of a person at sunset"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def pipe(sdxl_folder: Path) -> StableDiffusionXLPipeline:
    found = StableDiffusionXLPipeline.from_pretrained(sdxl_folder, add_watermarker=False)
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture
def copy(sdxl_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sdxl_folder, tmp_path / "base"))


@pytest.mark.parametrize("prompt", [PROMPTS[0], "a photo of a person, wearing a red top hat, " * 8])
@pytest.mark.parametrize("negative", [None, "an oil painting"])
def test_texts_are_those_of_the_stock_pipeline(
    sdxl: Backbone, pipe: StableDiffusionXLPipeline, prompt: str, negative: str | None
) -> None:
    states, avoided, pooled, avoided_pooled = pipe.encode_prompt(prompt, device="cpu", negative_prompt=negative)
    text, null = sdxl.encode_text([prompt]), sdxl.encode_text([negative or ""])
    assert text.pooled is not None and null.pooled is not None
    assert torch.equal(text.states, states) and torch.equal(text.pooled, pooled)
    assert torch.equal(null.states, avoided) and torch.equal(null.pooled, avoided_pooled)
    both = sdxl.encode_text([prompt, ""])
    assert both.states[1].abs().max() == 0 and both.states[0].abs().max() > 0, "an empty text is zeros"


def test_each_text_encoder_pads_in_its_own_way(sdxl: Backbone, pipe: StableDiffusionXLPipeline) -> None:
    read: list[torch.Tensor] = []
    for encoder in sdxl.text.encoders:
        encoder.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    sdxl.encode_text(PROMPTS)
    for ids, tokenizer in zip(read, (pipe.tokenizer, pipe.tokenizer_2), strict=True):
        assert ids.tolist() == tokenizer(PROMPTS, padding="max_length").input_ids
    assert not torch.equal(*read)


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver++"])
@pytest.mark.parametrize(("guidance", "negative"), [(3.0, ""), (3.0, "a sketch"), (1.0, "")])
def test_images_are_those_of_the_stock_pipeline_to_the_last_bit(
    sdxl: Backbone, pipe: StableDiffusionXLPipeline, sampler: str, guidance: float, negative: str
) -> None:
    options = {"clip_sample": False, "set_alpha_to_one": False}
    kind = DDIMScheduler if sampler == "ddim" else DPMSolverMultistepScheduler
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **options if sampler == "ddim" else {})
    module = PromptOnly(sdxl)
    module.sampling = SamplingSettings(sampler, 4, guidance, negative)
    batch = request_batch(
        PROMPTS, PROMPTS, PROMPTS, [("x", i) for i in range(2)], sdxl.latent_shape, sdxl.encode_text(PROMPTS)
    )
    ours = module.generate(batch)
    stock = pipe(
        PROMPTS,
        negative_prompt=[negative] * 2 if negative else None,
        latents=batch.noise.clone(),
        num_inference_steps=4,
        guidance_scale=guidance,
        height=SIDE,
        width=SIDE,
        output_type="np",
    ).images
    assert np.array_equal(np.rint(stock * 255).astype(np.uint8), ours.numpy())
    assert ours.float().std() > 1, "an image of one colour would agree with anything"


def test_pooled_text_and_sizes_decide(sdxl: Backbone) -> None:
    text = sdxl.encode_text(PROMPTS)
    z, t = torch.randn(2, *sdxl.latent_shape), torch.tensor([10, 900])

    def predict(pooled: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        return sdxl.unet(z, t, text.states, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample

    assert text.pooled is not None and text.sizes is not None
    with torch.no_grad():
        plain = predict(text.pooled, text.sizes)
        assert (predict(text.pooled.flip(0), text.sizes) - plain).abs().max() > 1e-4
        assert (predict(text.pooled, text.sizes + 40) - plain).abs().max() > 1e-4
    assert text.sizes.tolist() == [[SIDE, SIDE, 0, 0, SIDE, SIDE]] * 2


def test_a_nouns_own_embeddings_give_the_plain_prompt_bit_for_bit(sdxl: Backbone) -> None:
    placed = place_subjects(sdxl.tokenizer, "a photo of a <subject>, in a garden", {"subject": "person"})
    at = torch.tensor([placed.every_position])
    noun = sdxl.text.embedding(single_token(sdxl.tokenizer, "person"))
    assert noun.shape == (sum(sdxl.text.widths),)
    found = sdxl.text.encode_placed(placed.ids[None], at, noun[None, None])
    plain = sdxl.encode_text(["a photo of a person, in a garden"])
    assert found.pooled is not None and plain.pooled is not None
    assert torch.equal(found.states, plain.states) and torch.equal(found.pooled, plain.pooled)
    for part, width in enumerate(sdxl.text.widths):  # the vectors of either encoder reach its states, and no others
        other = noun.clone()
        other.split(sdxl.text.widths)[part].add_(0.5)
        changed = sdxl.text.encode_placed(placed.ids[None], at, other[None, None]).states - plain.states
        first, second = (half.abs().max() for half in changed.split(sdxl.text.widths, dim=-1))
        assert (first > 1e-3, second > 1e-3) == (part == 0, part == 1), width


def test_float16_gives_finite_images(sdxl: Backbone) -> None:
    """An autoencoder whose activations leave float16's range, as SDXL's do."""
    with torch.no_grad():
        for weight in (sdxl.vae.decoder.conv_in.weight, sdxl.vae.encoder.conv_in.weight):
            weight.mul_(1e6)
    latents, photo = torch.randn(1, *sdxl.latent_shape), torch.randint(256, (1, SIDE, SIDE, 3), dtype=torch.uint8)
    images, moments = sdxl.decode(latents), sdxl.encode_moments(photo)
    hold_frozen(sdxl, torch.float16)
    assert {weight.dtype for weight in sdxl.vae.parameters()} == {torch.float32}
    assert torch.float16 in {weight.dtype for weight in sdxl.unet.parameters()}
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(sdxl.decode(latents.half()).float(), sdxl.decode(latents.half().float()).float())
        assert (sdxl.decode(latents) == images).all() and images.float().std() > 1
        torch.testing.assert_close(sdxl.encode_moments(photo), moments)


def test_the_text_side_is_told_by_its_parts_alone(copy: Path) -> None:
    before = text_fingerprint(str(copy))
    (copy / "unet" / "note.json").write_text("{}")
    assert text_fingerprint(str(copy)) == before
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"force_zeros_for_empty_prompt": False}))
    assert text_fingerprint(str(copy)) != before
    assert load_backbone(str(copy)).encode_text([""]).states.abs().max() > 0


def test_an_empty_backbone_has_the_shapes(sdxl_folder: Path, sdxl: Backbone) -> None:
    empty = empty_backbone(sdxl_folder)
    shapes = {name: value.shape for name, value in sdxl.named_parameters()}
    assert {name: value.shape for name, value in empty.named_parameters()} == shapes


@pytest.mark.parametrize(
    "part",
    [
        "text_encoder", "text_encoder/model.safetensors", "text_encoder_2", "text_encoder_2/model.safetensors",
        "tokenizer", "tokenizer_2", "tokenizer_2/tokenizer.json", "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors", "vae/config.json", "scheduler/scheduler_config.json",
    ],
)  # fmt: skip
def test_a_part_that_is_missing_is_named(copy: Path, part: str) -> None:
    missing = copy / part
    shutil.rmtree(missing) if missing.is_dir() else missing.unlink()
    with pytest.raises(LikenessError, match=r"^model.backbone: cannot load ") as raised:
        load_backbone(str(copy))
    line = str(raised.value)
    assert part.split("/")[0] in line.replace(str(copy), "") and "\n" not in line


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("unet/config.json", {"in_channels": 9}, "takes 9 channels and its VAE has 4, as inpainting"),
        ("unet/config.json", {"cross_attention_dim": 32}, "text states of width 32, and its text encoders make 56"),
        ("unet/config.json", {"projection_class_embeddings_input_dim": 60}, "20 numbers of pooled text and 6 sizes"),
        ("unet/config.json", {"addition_embed_type": None}, "a second text encoder, and its UNet reads no pooled"),
        ("tokenizer_2/tokenizer_config.json", {"model_max_length": 20}, f"make {TEXT_LENGTH} and 20 tokens"),
        ("tokenizer_2/tokenizer_config.json", {"model_max_length": None}, "tokenizer_2/tokenizer_config.json says no"),
    ],
)
def test_what_is_no_sdxl_base_is_refused_before_weights_are_read(
    copy: Path, file: str, changes: dict, words: str
) -> None:
    settings = json.loads((copy / file).read_text()) | changes
    (copy / file).write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
    for weights in copy.rglob("*.safetensors"):
        weights.write_bytes(b"never read")
    with pytest.raises(LikenessError) as raised:
        load_backbone(str(copy))
    assert words in str(raised.value) and "what works is a text-to-image" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("refiner", "text_encoder_2 alone, as SDXL's refiner"),
        ("transformer", "a transformer and no UNet, as models of"),
    ],
)
def test_other_pipelines_are_told_by_their_name(copy: Path, kind: str, words: str) -> None:
    if kind == "refiner":
        shutil.rmtree(copy / "text_encoder")
    else:
        (copy / "unet").rename(copy / "transformer")
    with pytest.raises(LikenessError, match=rf"{words}.*what works is .* SDXL base"):
        load_backbone(str(copy))


def test_tokenizers_of_other_words_are_refused(copy: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(copy / "tokenizer_2")
    tokenizer.add_tokens("wombat")
    tokenizer.save_pretrained(copy / "tokenizer_2")
    with pytest.raises(LikenessError, match="tokenizers know other words"):
        load_backbone(str(copy))

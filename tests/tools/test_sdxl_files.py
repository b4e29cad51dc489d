"""On a base model in the shape of SDXL: what was learnt, in the stock pipeline, generates what the method generates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline
from safetensors.torch import load_file

import lightning_modules
from contracts.batch import RequestBatch
from contracts.conditioning import Conditioning
from contracts.text import Text
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from lightning_modules.image_prompt import ImagePrompt
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.run import Run
from networks.sampler import SamplingSettings, build_sampler, sample
from networks.stage_pipeline import stage_prompt
from pocket.tiny.components import SIDE, TEXT_WIDTH
from pocket.tiny.world import TinyWorld
from tests.helpers.batches import build, normal
from tests.lightning_modules.test_methods import save_run
from tools.export_subject import export_subject
from tools.ip_adapter import export_run, import_file

PROMPT = "a photo of a <subject>, in a garden"
STEPS, GUIDANCE = 3, 3.0
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def pipe(sdxl_folder: Path) -> StableDiffusionXLPipeline:
    found = StableDiffusionXLPipeline.from_pretrained(sdxl_folder, add_watermarker=False)
    found.set_progress_bar_config(disable=True)
    found.scheduler = DDIMScheduler.from_config(found.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    return found


def by_method(module: PerSubjectModule, subject: str = "s0000") -> torch.Tensor:
    """Latents (1, 4, 16, 16)."""
    module.sampling = SamplingSettings("ddim", STEPS, GUIDANCE)
    start = normal(1, 4, 16, 16, key="start")
    batch = RequestBatch(("r",), (subject,), (PROMPT,), start, Text(torch.empty(0)), {})
    both = module.conditioning(batch), module.null_conditioning(batch)
    return sample(
        module.denoise, build_sampler(module.sampling, module.backbone.scheduler), start, *both, module.sampling
    )


def by_pipeline(pipe: StableDiffusionXLPipeline, **prompt: object) -> torch.Tensor:
    more = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "latent"}
    return pipe(**prompt, latents=normal(1, 4, 16, 16, key="start"), height=SIDE, width=SIDE, **more).images


def enrolled(method: str, sdxl_folder: Path, folder: Path, **arguments: object) -> PerSubjectModule:
    module = build(getattr(lightning_modules, method), str(sdxl_folder), **arguments)
    save_run(module, folder)
    assert isinstance(module, PerSubjectModule)
    return module.eval()


def stages(pipe: StableDiffusionXLPipeline, file: Path) -> torch.Tensor:
    before = by_pipeline(pipe, prompt="a photo of a person")
    with stage_prompt(pipe, PROMPT, {"subject": file}) as prompt:
        found = by_pipeline(pipe, **prompt)
    assert torch.equal(by_pipeline(pipe, prompt="a photo of a person"), before), "the pipeline is what it was"
    return found


def inversion(pipe: StableDiffusionXLPipeline, file: Path) -> torch.Tensor:
    learnt = load_file(file)
    assert {name: value.shape[-1] for name, value in learnt.items()} == {"clip_l": TEXT_WIDTH, "clip_g": 24}
    pipe.load_textual_inversion(learnt["clip_l"], token="<s0000>")
    second = {"text_encoder": pipe.text_encoder_2, "tokenizer": pipe.tokenizer_2}
    pipe.load_textual_inversion(learnt["clip_g"], token="<s0000>", **second)
    return by_pipeline(pipe, prompt=PROMPT.replace("<subject>", "<s0000>"))


def lora(pipe: StableDiffusionXLPipeline, file: Path) -> torch.Tensor:
    pipe.load_lora_weights(str(file))
    return by_pipeline(pipe, prompt=PROMPT.replace("<subject>", "sks person"))


@pytest.mark.parametrize(
    ("method", "settings", "use", "said"),
    [
        ("SefiIDE", {}, stages, "stage_prompt"),
        ("SefiIDE", {"tokens_per_subject": 2, "scale": 0.5}, stages, "stage_prompt"),
        ("SefiIDE", {"stages": 1, "key_value": "shared"}, inversion, "text_encoder=pipe.text_encoder_2"),
        ("TextualInversion", {}, inversion, "text_encoder=pipe.text_encoder_2"),
        ("TextualInversion", {"vectors": 3}, inversion, "text_encoder=pipe.text_encoder_2"),
        ("DreamBoothLoRA", {"rank": 2, "scale": 0.5}, lora, "pipe.load_lora_weights"),
    ],
)
def test_a_subject_in_the_stock_pipeline(
    method: str,
    settings: dict[str, object],
    use: Callable[[StableDiffusionXLPipeline, Path], torch.Tensor],
    said: str,
    sdxl_folder: Path,
    pipe: StableDiffusionXLPipeline,
    tmp_path: Path,
) -> None:
    module = enrolled(method, sdxl_folder, tmp_path / "run", **settings)
    plain = by_pipeline(pipe, prompt=PROMPT.replace("<subject>", "person"))
    file = tmp_path / "s0000.safetensors"
    assert said in export_subject(tmp_path / "run", "s0000", file)
    found = use(pipe, file)
    torch.testing.assert_close(found, by_method(module), rtol=0, atol=1e-4)
    assert (found - plain).abs().max() > 1e-2, "the subject matters"


@pytest.mark.parametrize("negative", ["", "an oil painting"])
def test_a_negative_prompt_of_the_stage_vectors_is_the_pipelines(
    negative: str, sdxl_folder: Path, pipe: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    enrolled("SefiIDE", sdxl_folder, tmp_path / "run")
    file = tmp_path / "s0000.safetensors"
    export_subject(tmp_path / "run", "s0000", file)
    _, states, _, pooled = pipe.encode_prompt("a photo", device="cpu", negative_prompt=negative or None)
    with stage_prompt(pipe, PROMPT, {"subject": file}, negative) as prompt:
        assert torch.equal(prompt["negative_prompt_embeds"], states)
        assert torch.equal(prompt["negative_pooled_prompt_embeds"], pooled)


SIZES: dict[str, dict[str, Any]] = {
    "IPAdapter": {"image_width": 16},
    "IPAdapterPlus": {"image_width": TEXT_WIDTH, "image_tokens": 17, "resampler_width": 40},
    "IPAdapterFaceID": {"face_width": 512, "lora_rank": 4},
}


@pytest.mark.parametrize("method", SIZES)
def test_an_ip_adapter_in_the_stock_pipeline_and_back(
    method: str, sdxl_folder: Path, pipe: StableDiffusionXLPipeline, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    module = build(getattr(lightning_modules, method), str(sdxl_folder), **SIZES[method]).eval()
    assert isinstance(module, ImagePrompt)
    encoder = str(tiny_world.faces if method == "IPAdapterFaceID" else tiny_world.clip)
    name = module.needs[0]
    given = {name: {"recogniser": encoder, "detector": None} if method == "IPAdapterFaceID" else {"encoder": encoder}}
    if method == "IPAdapterPlus":
        feature = make_features([name], given, EncoderContext(str(sdxl_folder), SIDE))[name]
        module.blank.copy_(feature.nothing())  # type: ignore[operator]
    save_run(module, tmp_path / "run", **SIZES[method])
    file = tmp_path / "public.safetensors"
    assert "pipe.load_ip_adapter(" in export_run(tmp_path / "run", file)
    pipe.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, image_encoder_folder=None)
    values = normal(1, *module.feature_shape().values(), key="photo")
    text = module.backbone.encode_text(["a photo of a person"])
    z, t = normal(1, 4, 16, 16, key="z"), torch.tensor([500])
    added = {"text_embeds": text.pooled, "time_ids": text.sizes, "image_embeds": [values[:, None]]}
    with torch.no_grad():
        expected = pipe.unet(z, t, text.states, added_cond_kwargs=added).sample
        found = module.denoise(z, t, Conditioning.from_text(text, identity=module.project(values)))
        base = module.denoise(z, t, Conditioning.from_text(text))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - base).abs().max() > 1e-3, "identity takes part"
    import_file(file, str(sdxl_folder), encoder, tmp_path / "imported")
    state, loaded = module.adapter().state_dict(), Run(tmp_path / "imported").load().adapter().state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(value, state[name]) for name, value in loaded.items())

"""IP-Adapters and stock diffusers: the same weights give the same images, out of Likeness and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

import lightning_modules
from contracts.batch import RequestBatch
from contracts.conditioning import Conditioning
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from lightning_modules.image_prompt import ImagePrompt
from lightning_modules.run import Run
from networks.keyed_noise import keyed_normal
from networks.sampler import SamplingSettings
from pocket.models.paths import BASE, CLIP, FACES_A
from tools.ip_adapter import export_run, import_file, main

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
ENCODERS = {"IPAdapter": CLIP, "IPAdapterPlus": CLIP, "IPAdapterFaceID": FACES_A}
SIZES: dict[str, dict[str, Any]] = {
    "IPAdapter": {"image_width": 128},
    "IPAdapterPlus": {"image_width": 192, "image_tokens": 65},
    "IPAdapterFaceID": {"face_width": 512, "lora_rank": 4},
}
FEW = SamplingSettings("ddim", steps=3, guidance=3.0)
PROMPT = "a photo of a person in a garden"
PHOTO = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def run_of(method: str, folder: Path, **arguments: Any) -> ImagePrompt:
    """A run folder on the pocket base, with weights away from their first values."""
    arguments = SIZES[method] | arguments
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = getattr(lightning_modules, method)(str(BASE), **arguments)
        for parameter in module.adapter().parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    if method == "IPAdapterPlus":
        settings = {"clip_patches": {"encoder": str(CLIP)}}
        module.blank.copy_(make_features(settings, settings, EncoderContext(str(BASE), 64))["clip_patches"].nothing())
    folder.mkdir(parents=True)
    model = {"class_path": f"lightning_modules.{method}", "init_args": {"backbone": str(BASE), **arguments}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    module.save_adapter(folder / "adapter.safetensors")
    return module.eval()


def feature_of(module: ImagePrompt) -> torch.Tensor:
    """The photo's feature (1, ...); of a face any vector of length 1."""
    name = module.needs[0]
    if name == "face_embedding":
        return torch.nn.functional.normalize(keyed_normal((1, 512), "face"), dim=-1)
    settings = {name: {"encoder": str(CLIP)}}
    return make_features(settings, settings, EncoderContext(str(BASE), 64))[name].encode([PHOTO])


def generated(module: ImagePrompt) -> np.ndarray:
    """Our image (H, W, 3) in 0..1."""
    module.sampling = FEW
    text = module.backbone.encode_text([PROMPT])
    noise = keyed_normal((1, *module.backbone.latent_shape), "start")
    reference = {module.needs[0]: feature_of(module)}
    return module.generate(RequestBatch(("r",), ("s",), (PROMPT,), noise, text, reference))[0].numpy() / 255


def stock_pipe() -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(
        BASE,
        safety_checker=None,
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(CLIP),
        feature_extractor=CLIPImageProcessorPil.from_pretrained(CLIP),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load(pipe: StableDiffusionPipeline, file: Path) -> StableDiffusionPipeline:
    pipe.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, image_encoder_folder=None)
    return pipe


def by_stock(pipe: StableDiffusionPipeline, module: ImagePrompt) -> np.ndarray:
    """The stock pipeline's image; it encodes the photo itself, and only gets the face's embedding ready made."""
    given: dict[str, Any] = {"ip_adapter_image": Image.fromarray(PHOTO)}
    if module.needs[0] == "face_embedding":
        face = feature_of(module)[None]
        given = {"ip_adapter_image_embeds": [torch.cat([torch.zeros_like(face), face])]}
    noise = keyed_normal((1, *module.backbone.latent_shape), "start")
    settings = {"num_inference_steps": FEW.steps, "guidance_scale": FEW.guidance, "eta": 0.0, "output_type": "np"}
    return pipe(PROMPT, latents=noise, **settings, **given).images[0]


@pytest.mark.parametrize("method", ENCODERS)
def test_stock_diffusers_generates_our_image_and_the_file_comes_back(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = run_of(method, tmp_path / "run")
    file = tmp_path / "public.safetensors"
    assert main(["export", "--run", str(tmp_path / "run"), "--output", str(file)]) == 0
    assert "pipe.load_ip_adapter(" in capsys.readouterr().out
    ours = generated(module)
    pipe = stock_pipe()
    pipe.scheduler = module.backbone.scheduler
    stock = by_stock(load(pipe, file), module)
    assert np.abs(ours - stock).max() <= 1 / 255
    text, values = module.backbone.encode_text([PROMPT]), feature_of(module)
    with torch.no_grad():
        (tokens,) = pipe.unet.encoder_hid_proj([values[:, None]])
        torch.testing.assert_close(tokens[:, 0], module.project(values), rtol=0, atol=1e-5)
        z, t = keyed_normal((1, *module.backbone.latent_shape), "z"), torch.tensor([500])
        expected = pipe.unet(z, t, text, added_cond_kwargs={"image_embeds": [values[:, None]]}).sample
        found = module.denoise(z, t, Conditioning.from_text(text, identity=module.project(values)))
        base = module.denoise(z, t, Conditioning.from_text(text))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - base).abs().max() > 1e-2, "identity takes part"
    tensors = load_file(file)
    nested: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        nested[group][rest] = value
    torch.save(nested, tmp_path / "public.bin")
    for place in (file, tmp_path / "public.bin"):
        output = tmp_path / f"imported-{place.suffix[1:]}"
        assert (
            main(
                [
                    "import",
                    str(place),
                    "--backbone",
                    str(BASE),
                    "--encoder",
                    str(ENCODERS[method]),
                    "--output",
                    str(output),
                ]
            )
            == 0
        )
        run = Run(output)
        again = run.load()
        assert type(again) is type(module)
        state = module.adapter().state_dict()
        loaded = again.adapter().state_dict()
        assert loaded.keys() == state.keys() and all(torch.equal(value, state[name]) for name, value in loaded.items())
        assert run.manifest["imported"]["file"] == place.name
        assert set(run.data["features"]) == set(module.needs) == set(run.manifest["encoders"])

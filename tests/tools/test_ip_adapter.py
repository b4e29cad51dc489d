"""IP-Adapters and stock diffusers: the same weights give the same images, out of Likeness and back."""

import re
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

import generate
import lightning_modules
from contracts.batch import RequestBatch
from contracts.conditioning import Conditioning
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from lightning_modules.image_prompt import ImagePrompt
from lightning_modules.run import Run
from networks.backbone import load_backbone
from networks.keyed_noise import keyed_normal
from networks.sampler import SamplingSettings
from pocket.models.paths import BASE, CLIP, FACES_A, WEIGHTS
from tools.ip_adapter import export_run, import_file, main

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
ADAPTERS = WEIGHTS / "adapters"
ENCODERS = {"IPAdapter": CLIP, "IPAdapterPlus": CLIP, "IPAdapterFaceID": FACES_A}
SIZES: dict[str, dict[str, Any]] = {
    "IPAdapter": {"image_width": 128},
    "IPAdapterPlus": {"image_width": 192, "image_tokens": 65},
    "IPAdapterFaceID": {"face_width": 512, "lora_rank": 4},
}
FEW = SamplingSettings("ddim", steps=3, guidance=3.0)
PROMPT = "a photo of a person in a garden"
PHOTO, SECOND = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)


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


def feature_of(module: ImagePrompt, photo: np.ndarray = PHOTO) -> torch.Tensor:
    """The photo's feature (1, ...); of a face a vector of length 1 that depends on the photo."""
    name = module.needs[0]
    if name == "face_embedding":
        return torch.nn.functional.normalize(keyed_normal((1, 512), "face", int(photo[0, 0, 0])), dim=-1)
    settings = {name: {"encoder": str(CLIP)}}
    return make_features(settings, settings, EncoderContext(str(BASE), 64))[name].encode([photo])


def generated(module: ImagePrompt, second: np.ndarray | None = None) -> np.ndarray:
    """Our image (H, W, 3) in 0..1, of the photo's subject or of that and another photo's."""
    module.sampling = FEW
    text = module.backbone.encode_text([PROMPT])
    noise = keyed_normal((1, *module.backbone.latent_shape), "start")
    reference = {module.needs[0]: feature_of(module)}
    beside = {} if second is None else {module.needs[0]: feature_of(module, second)}
    batch = RequestBatch(("r",), ("s",), (PROMPT,), noise, text, reference, beside=beside)
    return module.generate(batch)[0].numpy() / 255


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


def by_stock(pipe: StableDiffusionPipeline, module: ImagePrompt, *further: np.ndarray) -> np.ndarray:
    """The stock pipeline's image; it encodes the photos itself, and only gets the faces' embeddings ready made."""
    photos = [PHOTO, *further]
    given: dict[str, Any] = {"ip_adapter_image": [[Image.fromarray(photo) for photo in photos]]}
    if module.needs[0] == "face_embedding":
        face = torch.cat([feature_of(module, photo) for photo in photos])[None]
        given = {"ip_adapter_image_embeds": [torch.cat([torch.zeros_like(face), face])]}
    noise = keyed_normal((1, *module.backbone.latent_shape), "start")
    settings = {"num_inference_steps": FEW.steps, "guidance_scale": FEW.guidance, "eta": 0.0, "output_type": "np"}
    return pipe(PROMPT, latents=noise, **settings, **given).images[0]


@pytest.mark.parametrize("method", ENCODERS)
def test_two_subjects_are_several_images_of_one_adapter_to_stock_diffusers(method: str, tmp_path: Path) -> None:
    module = run_of(method, tmp_path / "run")
    file = tmp_path / "public.safetensors"
    assert main(["export", "--run", str(tmp_path / "run"), "--output", str(file)]) == 0
    pipe = load(stock_pipe(), file)
    pipe.scheduler = module.backbone.scheduler
    ours = generated(module, SECOND)
    assert np.abs(ours - by_stock(pipe, module, SECOND)).max() <= 1 / 255
    assert np.abs(ours - generated(module)).max() > 0.05


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
        expected = pipe.unet(z, t, text.states, added_cond_kwargs={"image_embeds": [values[:, None]]}).sample
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


def public(changes: dict[str, torch.Tensor | None] | None = None, tokens: int = 4, width: int = 128) -> dict:
    """A plain file for the pocket base, or one like it, of zeros; ``None`` takes an entry away."""
    base = load_backbone(str(BASE)).unet
    tensors = {
        "image_proj.proj.weight": torch.zeros(tokens * width, 128),
        "image_proj.proj.bias": torch.zeros(tokens * width),
        "image_proj.norm.weight": torch.zeros(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    for k, path in enumerate(base.attn_processors):
        if path.endswith("attn2.processor"):
            inner = base.get_submodule(path.removesuffix(".processor")).to_k.out_features
            tensors |= {f"ip_adapter.{k}.to_{part}_ip.weight": torch.zeros(inner, width) for part in "kv"}
    return {name: value for name, value in {**tensors, **(changes or {})}.items() if value is not None}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"width": 2048}, r"has tokens of 2048 numbers, it is a file for SDXL; those of .* have 128"),
        ({"width": 64}, r"has tokens of 64 numbers; those of .* have 128"),
        (
            {"changes": {"image_proj.perceiver_resampler.proj_in.weight": torch.zeros(2)}},
            "an IP-Adapter FaceID Plus",
        ),
        ({"changes": {"image_proj.proj.3.weight": torch.zeros(2)}}, "is an IP-Adapter Full Face"),
        ({"changes": {"image_proj.proj.bias": None}}, r"does not fit .*: image_proj.proj.bias is missing, expected"),
        ({"changes": {"ip_adapter.99.to_k_ip.weight": torch.zeros(2)}}, r"ip_adapter.99.to_k_ip.weight is \(2,\), exp"),
        ({"changes": {"image_proj.proj.weight": None}}, "no IP-Adapter file that Likeness knows: image_proj.proj.0.w"),
        ({"changes": {"image_proj.norm.weight": torch.tensor(1.0)}}, "knows: image_proj.norm.weight is missing or of"),
        (
            {"changes": {"image_proj.proj.weight": torch.zeros(512, 64)}},
            "model.image_width is 64, the image encoder gives 128",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(
    tensors: dict, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(public(**tensors), tmp_path / "public.safetensors")
    refused(tmp_path / "public.safetensors", said, capsys)


def refused(file: Path, said: str, capsys: pytest.CaptureFixture[str], encoder: Path = CLIP) -> None:
    output = file.parent / "run"
    given = ["--backbone", str(BASE), "--encoder", str(encoder), "--output", str(output)]
    assert main(["import", str(file), *given]) == 2
    line = capsys.readouterr().err
    assert re.search(said, line) and line.count("\n") == 1, line
    assert not output.exists(), "nothing half written"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("public.safetensors", None, "no IP-Adapter file at"),
        ("public.safetensors", b"x" * 100, "is not a readable IP-Adapter file"),
        ("public.bin", b"x" * 100, "is not a readable IP-Adapter file"),
        ("public.bin", {"image_proj": Path("runs code"), "ip_adapter": {}}, "is not a readable IP-Adapter file"),
        ("public.bin", {"state_dict": {}}, "is not a readable IP-Adapter file: image_proj holds no tensors by name"),
        ("public.bin", {"image_proj": {}, "ip_adapter": {}}, "is no IP-Adapter file: it has no image_proj"),
    ],
)
def test_what_is_no_such_file_is_one_line(
    name: str, content: object, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    refused(tmp_path / name, said, capsys)


def test_a_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    given = ["--backbone", str(BASE), "--encoder", str(CLIP), "--output", str(tmp_path)]
    assert main(["import", "public.bin", *given]) == 2
    assert "holds a run: name another folder" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        ("IPAdapter", {"tokens": 3}, "has model.tokens 3, stock diffusers reads 4"),
        ("IPAdapterPlus", {"depth": 2}, "has model.depth 2, stock diffusers reads 4"),
    ],
)
def test_what_stock_diffusers_does_not_read_is_not_written(
    method: str, arguments: dict, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(method, tmp_path / "run", **arguments)
    assert main(["export", "--run", str(tmp_path / "run"), "--output", str(tmp_path / "public.safetensors")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "public.safetensors").exists()


def test_another_method_is_no_ip_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "public.safetensors"
    assert main(["export", "--run", str(ADAPTERS / "spotdiff"), "--output", str(file)]) == 2
    assert "is a run of SpotDiff, which is no IP-Adapter" in capsys.readouterr().err
    assert main(["export", "--run", str(ADAPTERS / "ip_adapter"), "--output", str(tmp_path / "public.bin")]) == 2
    assert "is written as .safetensors" in capsys.readouterr().err


def test_an_imported_file_is_an_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped adapter, out and in again, generates what it generates as a run."""
    export_run(ADAPTERS / "ip_adapter", tmp_path / "public.safetensors")
    import_file(tmp_path / "public.safetensors", str(BASE), str(CLIP), tmp_path / "run")
    Image.fromarray(PHOTO).save(tmp_path / "me.png")
    images = []
    for run in (ADAPTERS / "ip_adapter", tmp_path / "run"):
        output = tmp_path / f"out-{run.name}"
        given = ["--photo", str(tmp_path / "me.png"), "--prompts", "a photo of a <subject>", "--output", str(output)]
        assert generate.main(["--run", str(run), *given, "--steps=2", "--samples=1"]) == 0, capsys.readouterr().err
        (file,) = (path for path in output.rglob("*.png") if path.name != "contact_sheet.png")
        images.append(np.asarray(Image.open(file)))
    assert np.array_equal(*images)

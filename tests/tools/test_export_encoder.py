"""SpotDiff and PIDiff outside of Likeness: pipelines generate the images that the methods generate."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from contracts.settings import GenerationSettings
from datamodules.requests import noise_key
from leaderboard.generate.own_photos import generate_images
from lightning_modules.run import Run
from lightning_modules.spotdiff import SpotDiff
from networks.backbone import load_backbone
from networks.keyed_noise import keyed_normal
from pocket.models.paths import BASE, WEIGHTS
from pocket.render.dataset import Grid, rows_of
from tools.export_encoder.__main__ import export_encoder, main

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
ADAPTERS = WEIGHTS / "adapters"
HOW = GenerationSettings(samples=1, sampler="ddim", steps=3, guidance=3.0)
PROMPT = "a photo of a person in a garden"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photo")
    (folder / "me.png").write_bytes(rows_of(7, Grid(40, 3, 3))[0]["image"]["bytes"])
    return folder / "me.png"


@pytest.fixture(scope="module", params=["spotdiff", "pidiff"])
def exported(request: pytest.FixtureRequest, photo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A shipped adapter, and its folder for the photo."""
    run, folder = Run(ADAPTERS / request.param), tmp_path_factory.mktemp("exported") / request.param
    export_encoder(run.folder, str(photo), folder)
    return run, folder


def pipeline_of(folder: Path) -> ModuleType:
    """The module that lies in the folder, as somebody without Likeness reads it."""
    spec = importlib.util.spec_from_file_location("exported_pipeline", folder / "pipeline.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(run: Path, photo: Path, output: Path, settings: GenerationSettings = HOW) -> tuple[str, NDArray[np.float64]]:
    """The request's id, and what ``generate.py`` makes of it, (H, W, 3) in 0..1."""
    text = PROMPT.replace("person", "<subject>")
    (image,) = generate_images([str(run)], [text], output, photos=[str(photo)], settings=settings)
    return image.request.id, np.asarray(Image.open(image.path)) / 255


def theirs(pipe: StableDiffusionPipeline, request: str, **given: object) -> NDArray[np.float64]:
    pipe.set_progress_bar_config(disable=True)
    noise = keyed_normal((1, 4, 16, 16), *noise_key(0, request))
    return pipe(
        PROMPT, latents=noise, num_inference_steps=3, guidance_scale=3.0, eta=0.0, output_type="np", **given
    ).images[0]


def stock(kind: type[StableDiffusionPipeline] = StableDiffusionPipeline) -> StableDiffusionPipeline:
    pipe = kind.from_pretrained(BASE, safety_checker=None)
    pipe.scheduler = load_backbone(str(BASE)).scheduler
    return pipe


def test_the_small_pipeline_generates_our_image(exported: tuple[Run, Path], photo: Path, tmp_path: Path) -> None:
    run, folder = exported
    request, expected = ours(run.folder, photo, tmp_path / "out")
    pipe = stock(pipeline_of(folder).IdentityPipeline)
    base = theirs(pipe, request)
    pipe.load_identity(folder)
    assert np.abs(theirs(pipe, request) - expected).max() <= 1 / 255 + 1e-6
    pipe.load_identity(folder, scale=0.0)
    assert np.array_equal(theirs(pipe, request), base), "strength 0 is the base model"
    pipe.load_identity(folder)
    assert np.abs(theirs(pipe, request) - base).max() > 4 / 255
    pipe.unload_identity()
    assert np.array_equal(theirs(pipe, request), base), "and so is the pipeline behind it"
    assert theirs(pipe, request, num_images_per_prompt=1).shape == (64, 64, 3)


def test_a_stock_pipeline_reads_what_it_can_hold(photo: Path, tmp_path: Path) -> None:
    """By the words of the model card, of a run with as many tokens as stock diffusers reads."""
    arguments = {"image_width": 192, "hidden": 32, "tokens": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = SpotDiff(str(BASE), **arguments)
        for parameter in module.adapter().parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    run, shipped = tmp_path / "run", Run(ADAPTERS / "spotdiff")
    module.save_adapter(run / "adapter.safetensors")
    model = {"class_path": "lightning_modules.SpotDiff", "init_args": {"backbone": str(BASE), **arguments}}
    (run / "config.yaml").write_text(yaml.safe_dump({**shipped.config, "model": model}))
    export_encoder(run, str(photo), tmp_path / "me")
    request, expected = ours(run, photo, tmp_path / "out")
    pipe = stock()
    base = theirs(pipe, request)
    card = (tmp_path / "me" / "README.md").read_text()
    told = card.split("without `pipeline.py`:")[1].split("```")[1].removeprefix("python\n")
    code, _, call = told.replace("FOLDER", str(tmp_path / "me")).partition("image = ")
    names: dict = {"pipe": pipe}
    exec(code, names)
    assert "ip_adapter_image_embeds=[embeds]" in call
    found = theirs(pipe, request, ip_adapter_image_embeds=[names["embeds"]])
    assert np.abs(found - expected).max() <= 1 / 255 + 1e-6 and np.abs(found - base).max() > 4 / 255


def test_late_identity_and_several_photos(photo: Path, tmp_path: Path) -> None:
    """PIDiff's delay, and the average of two photos, are what generate.py makes of them."""
    (tmp_path / "two").mkdir()
    for number in range(2):
        (tmp_path / "two" / f"{number}.png").write_bytes(rows_of(7, Grid(40, 3, 3))[number]["image"]["bytes"])
    late = Run(ADAPTERS / "pidiff").with_arguments(delay=0.5)
    (tmp_path / "late").mkdir()
    for name in ("adapter.safetensors", "manifest.json"):
        (tmp_path / "late" / name).write_bytes((ADAPTERS / "pidiff" / name).read_bytes())
    (tmp_path / "late" / "config.yaml").write_text(yaml.safe_dump(late.config))
    settings = GenerationSettings(samples=1, sampler="ddim", steps=3, guidance=3.0, references=2)
    for run, card in ((tmp_path / "late", "at timesteps below 500 only"), (ADAPTERS / "spotdiff", "2 photos")):
        folder = tmp_path / f"exported-{run.name}"
        assert main(["--run", str(run), "--photo", str(tmp_path / "two"), "--output", str(folder)]) == 0
        request, expected = ours(run, tmp_path / "two", tmp_path / f"out-{run.name}", settings)
        pipe = stock(pipeline_of(folder).IdentityPipeline)
        pipe.load_identity(folder)
        assert np.abs(theirs(pipe, request) - expected).max() <= 1 / 255 + 1e-6
        text = (folder / "README.md").read_text()
        assert card in text and "Stock diffusers alone cannot hold it" in text
        assert "embeds" not in load_file(folder / "subject.safetensors")


def test_mistakes_are_one_line(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    blank = tmp_path / "blank.png"
    Image.new("RGB", (64, 64)).save(blank)
    for run, given, output, said in (
        ("spotdiff", photo, full, "is not empty: name another folder"),
        ("ip_adapter", photo, tmp_path / "a", "is a run of IPAdapter: tools.ip_adapter exports IP-Adapters"),
        ("spotdiff", tmp_path / "none.png", tmp_path / "b", "cannot be read"),
        ("pidiff", blank, tmp_path / "c", "face"),
    ):
        assert main(["--run", str(ADAPTERS / run), "--photo", str(given), "--output", str(output)]) == 2
        line = capsys.readouterr().err
        assert said in line and line.count("\n") == 1, line
        assert output is full or not output.exists()

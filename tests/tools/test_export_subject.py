"""Subjects outside of the framework: stock pipelines generate the images that the method generates."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from contracts.errors import LikenessError
from lightning_modules.dreambooth_lora import DreamBoothLoRA
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.sefi_ide import SefiIDE
from lightning_modules.textual_inversion import TextualInversion
from networks.sampler import SamplingSettings
from networks.stage_pipeline import stage_prompt
from performance.faults.inject import umask
from pocket.tiny.components import tiny_base
from tests.helpers.batches import build, normal
from tests.lightning_modules.test_methods import save_run
from tools.export_subject import export_subject, main

PROMPT = "a photo of a <subject>, in a garden"
STEPS, GUIDANCE = 4, 3.0
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def run_of(base: Path, folder: Path, method: type[PerSubjectModule] = SefiIDE, **arguments: object) -> PerSubjectModule:
    module = build(method, str(base), **arguments)
    save_run(module, folder)
    assert isinstance(module, PerSubjectModule)
    module.sampling = SamplingSettings("ddim", STEPS, GUIDANCE)
    return module.eval()


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("export") / "base")


@pytest.fixture
def pipe(base_folder: Path) -> StableDiffusionPipeline:
    found = StableDiffusionPipeline.from_pretrained(base_folder, safety_checker=None)
    found.set_progress_bar_config(disable=True)
    return found


def by_method(module: PerSubjectModule, prompt: str, subject: str = "s0000") -> torch.Tensor:
    """Latents (1, 4, 16, 16)."""
    from contracts.batch import RequestBatch
    from contracts.text import Text
    from networks.sampler import build_sampler, sample

    batch = RequestBatch(("r",), (subject,), (prompt,), normal(1, 4, 16, 16, key="start"), Text(torch.empty(0)), {})
    scheduler = build_sampler(module.sampling, module.backbone.scheduler)
    both = module.conditioning(batch), module.null_conditioning(batch)
    return sample(module.denoise, scheduler, batch.noise, *both, module.sampling)


def by_pipeline(pipe: StableDiffusionPipeline, **prompt: object) -> torch.Tensor:
    start = normal(1, 4, 16, 16, key="start")
    more = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "latent"}
    return pipe(**prompt, latents=start, **more).images


@pytest.mark.parametrize("settings", [{}, {"tokens_per_subject": 3}, {"scale": 0.5}], ids=["one", "three", "half"])
def test_a_stock_pipeline_generates_stage_vectors(
    base_folder: Path, pipe: StableDiffusionPipeline, tmp_path: Path, settings: dict[str, object]
) -> None:
    module = run_of(base_folder, tmp_path / "run", **settings)
    before = by_pipeline(pipe, prompt="a photo of a person")
    assert "stage_prompt" in export_subject(tmp_path / "run", "s0000", tmp_path / "s0000.safetensors")
    with stage_prompt(pipe, PROMPT, {"subject": tmp_path / "s0000.safetensors"}) as prompt:
        found = by_pipeline(pipe, **prompt)
    torch.testing.assert_close(found, by_method(module, PROMPT), rtol=0, atol=1e-4)
    assert torch.equal(by_pipeline(pipe, prompt="a photo of a person"), before), "the pipeline is what it was"


def test_two_subject_files_share_a_prompt(base_folder: Path, pipe: StableDiffusionPipeline, tmp_path: Path) -> None:
    module = run_of(base_folder, tmp_path / "run")
    files = {name: tmp_path / f"{name}.safetensors" for name in ("s0001", "s0002")}
    for name, path in files.items():
        export_subject(tmp_path / "run", name, path)
    prompt = "a photo of a <s0001> and a <s0002>"
    with stage_prompt(pipe, prompt, files) as given:
        found = by_pipeline(pipe, **given)
    torch.testing.assert_close(
        found, by_method(module, "a photo of a <subject> and a <s0002>", "s0001"), rtol=0, atol=1e-4
    )


def test_inside_of_the_block_no_other_prompt_is_generated_and_behind_it_this_one_is_not(
    base_folder: Path, pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    run_of(base_folder, tmp_path / "run")
    export_subject(tmp_path / "run", "s0000", tmp_path / "s0000.safetensors")
    with stage_prompt(pipe, PROMPT, {"subject": tmp_path / "s0000.safetensors"}) as prompt:
        for other in ({"prompt": "a photo of a person"}, {"prompt_embeds": 1.01 * prompt["prompt_embeds"]}):
            negative = {"negative_prompt_embeds": prompt["negative_prompt_embeds"]}
            with pytest.raises(LikenessError, match="inside stage_prompt the pipeline generates 'a photo of a <subj"):
                by_pipeline(pipe, **other, **negative)
        for more in ({"num_images_per_prompt": 2}, {"guidance_scale": 1.0}):
            assert pipe(**prompt, **more, num_inference_steps=1, output_type="latent").images.isfinite().all()
    with pytest.raises(ValueError, match="Provide either `prompt` or `prompt_embeds`"):
        by_pipeline(pipe, **prompt)


def test_subjects_that_stage_prompt_cannot_use_are_one_line(
    base_folder: Path, pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    run, file, copy = (tmp_path / name for name in ("run", "s0000.safetensors", "copy.safetensors"))
    run_of(base_folder, run)
    export_subject(run, "s0000", file)
    copy.write_bytes(file.read_bytes())
    for subjects, words in (
        ({}, "stage_prompt got no subjects"),
        ({"subject": file, "other": file}, "<subject> and <other> are one subject, 's0000'"),
        ({"subject": file, "other": copy}, "<subject> and <other> are one subject, 's0000'"),
        (
            {"subject": run / "adapter.safetensors"},
            r"is no exported subject.*tools.export_subject",
        ),
        ({"subject": tmp_path / "none"}, r"no subject file at .*tools.export_subject"),
    ):
        with (
            pytest.raises(LikenessError, match=words) as raised,
            stage_prompt(pipe, "a photo of a <subject> and a <other>", subjects),
        ):
            pass
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("tokens", "shape"), [(1, (32,)), (3, (3, 32))])
def test_a_single_stage_is_a_textual_inversion(
    base_folder: Path, pipe: StableDiffusionPipeline, tmp_path: Path, tokens: int, shape: tuple[int, ...]
) -> None:
    module = run_of(base_folder, tmp_path / "run", stages=1, key_value="shared", tokens_per_subject=tokens)
    file = tmp_path / "s0000.safetensors"
    assert "load_textual_inversion" in export_subject(tmp_path / "run", "s0000", file)
    assert {name: tuple(value.shape) for name, value in load_file(file).items()} == {"<s0000>": shape}
    pipe.load_textual_inversion(str(file))
    found = by_pipeline(pipe, prompt=PROMPT.replace("<subject>", "<s0000>"))
    torch.testing.assert_close(found, by_method(module, PROMPT), rtol=0, atol=1e-4)


def pixels(module: PerSubjectModule, latents: torch.Tensor) -> torch.Tensor:
    """Images (1, H, W, 3) as integers."""
    return module.backbone.decode(latents).int()


@pytest.mark.parametrize("settings", [{}, {"vectors": 3, "scale": 0.5}], ids=["one", "three, half"])
def test_textual_inversion_in_a_stock_pipeline(
    base_folder: Path, pipe: StableDiffusionPipeline, tmp_path: Path, settings: dict[str, object]
) -> None:
    module = run_of(base_folder, tmp_path / "run", TextualInversion, **settings)
    file = tmp_path / "s0000.safetensors"
    assert "load_textual_inversion" in export_subject(tmp_path / "run", "s0000", file)
    pipe.load_textual_inversion(str(file))
    found = by_pipeline(pipe, prompt=PROMPT.replace("<subject>", "<s0000>"))
    wanted = by_method(module, PROMPT)
    assert (pixels(module, found) - pixels(module, wanted)).abs().max() <= 1
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{}, {"rank": 2, "alpha": 3.0, "scale": 0.5}, {"target_modules": ".*(to_k|ff.net.2|time_emb_proj)"}],
    ids=["as published", "half", "other layers"],
)
def test_lora_in_a_stock_pipeline(
    base_folder: Path, pipe: StableDiffusionPipeline, tmp_path: Path, settings: dict[str, object]
) -> None:
    """One subject's weights are read by diffusers and peft, from the file alone."""
    module = run_of(base_folder, tmp_path / "run", DreamBoothLoRA, **settings)
    before = by_pipeline(pipe, prompt="a photo of a sks person, in a garden")
    file = tmp_path / "s0001.safetensors"
    said = export_subject(tmp_path / "run", "s0001", file)
    assert "pipe.load_lora_weights" in said and '"sks person"' in said
    pipe.load_lora_weights(str(file))
    found = by_pipeline(pipe, prompt=PROMPT.replace("<subject>", "sks person"))
    wanted = by_method(module, PROMPT, "s0001")
    assert (pixels(module, found) - pixels(module, wanted)).abs().max() <= 1
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert (pixels(module, found) - pixels(module, before)).abs().max() > 3, "the weights matter"


@pytest.mark.parametrize("settings", [{}, {"stages": 1, "key_value": "shared"}], ids=["stages", "inversion"])
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_umask_decides_who_reads_the_file(
    base_folder: Path, tmp_path: Path, settings: dict[str, object], mask: int, mode: int
) -> None:
    run_of(base_folder, tmp_path / "run", **settings)
    with umask(mask):
        export_subject(tmp_path / "run", "s0000", tmp_path / "s0000.safetensors")
    assert (tmp_path / "s0000.safetensors").stat().st_mode & 0o777 == mode


def test_a_file_of_another_text_encoder_is_refused(base_folder: Path, tmp_path: Path) -> None:
    run_of(base_folder, tmp_path / "run")
    export_subject(tmp_path / "run", "s0000", tmp_path / "s0000.safetensors")
    other = StableDiffusionPipeline.from_pretrained(tiny_base(tmp_path / "other", seed=1), safety_checker=None)
    with (
        pytest.raises(LikenessError, match="learnt for another text encoder"),
        stage_prompt(other, PROMPT, {"subject": tmp_path / "s0000.safetensors"}),
    ):
        pass


def test_mistakes_are_one_line(base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(base_folder, tmp_path / "run", stages=1, key_value="shared")
    given = ["--run", str(tmp_path / "run"), "--output", str(tmp_path / "out" / "x.safetensors")]
    assert main([*given, "--subject", "s9999"]) == 2
    assert main(["--run", str(tmp_path / "no-run"), "--output", "x", "--subject", "s0000"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("error: ") for line in lines)
    assert "s9999" in lines[0] and "no-run" in lines[1]
    assert f"--config {tmp_path / 'run'}/config.yaml" in lines[0]
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    assert main(["--run", str(tmp_path / "run"), "--subject", "s0000", "--output", str(tmp_path / "full")]) == 2
    assert "could not be written" in capsys.readouterr().err
    assert not list(tmp_path.glob(".full.*")), "nothing half-written stays"
    assert main([*given, "--subject", "s0000"]) == 0
    with (
        pytest.raises(LikenessError, match="load_textual_inversion"),
        stage_prompt(None, PROMPT, {"subject": tmp_path / "out" / "x.safetensors"}),  # type: ignore[arg-type]
    ):
        pass


def test_values_of_the_plain_prompt_cannot_be_exported(base_folder: Path, tmp_path: Path) -> None:
    run_of(base_folder, tmp_path / "run", values_behind="plain")
    with pytest.raises(LikenessError, match="values_behind plain"):
        export_subject(tmp_path / "run", "s0000", tmp_path / "s0000.safetensors")

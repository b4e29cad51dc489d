"""LoRA files of three programs: one form, one change of the base model, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from contracts.errors import LikenessError
from networks.backbone import load_backbone
from networks.keyed_noise import keyed_normal
from networks.lora_file import check_fit, numbers_in, read_lora, worn
from pocket.tiny.components import tiny_base, tiny_sdxl
from tests.helpers.loras import LAYOUTS, write_lora

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("loras") / "base")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl(tmp_path_factory.mktemp("loras") / "sdxl")


def test_all_layouts_are_one_lora(base: Path, tmp_path: Path) -> None:
    first, *others = (read_lora(write_lora(tmp_path / name / "s1", base, name, seed=1)) for name in LAYOUTS)
    for other in others:
        for part in ("unet", "text_encoder"):
            ours, theirs = getattr(first, part), getattr(other, part)
            names = {name.removeprefix("text_model."): value for name, value in theirs.items()}
            assert ours.keys() == names.keys() and ours
            for name, value in ours.items():
                torch.testing.assert_close(value, names[name])
    numbers = sum(value.numel() for part in (first.unet, first.text_encoder) for value in part.values())
    assert {numbers_in(tmp_path / name / ("s1" if name == "peft" else "s1.safetensors")) for name in LAYOUTS} == {
        numbers
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_base_model_wears_what_a_stock_pipeline_loads(layout: str, base: Path, tmp_path: Path) -> None:
    place = write_lora(tmp_path / "s1", base, layout, seed=2)
    backbone, lora = load_backbone(str(base)), read_lora(place)
    z, t, texts = keyed_normal((1, 4, 16, 16), "z"), torch.tensor([500]), ["a photo of a sks person"]

    @torch.no_grad()
    def predicted() -> torch.Tensor:
        return backbone.unet(z, t, backbone.encode_text(texts).states).sample

    before = predicted()
    with worn(backbone, lora):
        found = predicted()
    with worn(backbone, lora, 0.5):
        half = predicted()
    assert torch.equal(predicted(), before), "and takes it off again"
    if layout != "peft":  # whose folders are no file of a pipeline
        pipe = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
        pipe.load_lora_weights(str(place))
        states, _ = pipe.encode_prompt(texts[0], "cpu", 1, do_classifier_free_guidance=False)
        with torch.no_grad():
            torch.testing.assert_close(found, pipe.unet(z, t, states).sample, rtol=0, atol=1e-5)
        states, _ = pipe.encode_prompt(texts[0], "cpu", 1, do_classifier_free_guidance=False, lora_scale=0.5)
        with torch.no_grad():
            theirs = pipe.unet(z, t, states, cross_attention_kwargs={"scale": 0.5}).sample
        torch.testing.assert_close(half, theirs, rtol=0, atol=1e-5)
    assert (found - before).abs().max() > 0.05 and (half - found).abs().max() > 0.01


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sdxl_wears_what_its_stock_pipeline_loads(layout: str, sdxl: Path, base: Path, tmp_path: Path) -> None:
    place = write_lora(tmp_path / "s1", sdxl, layout, seed=2)
    backbone, lora, texts = load_backbone(str(sdxl)), read_lora(place), ["a photo of a sks person"]
    check_fit(lora, backbone, backbone.fingerprint, "x")
    plain = backbone.encode_text(texts)
    with worn(backbone, lora), torch.no_grad():
        found = backbone.encode_text(texts)
    assert (found.states - plain.states).abs().max() > 0.05
    if layout != "peft":  # a file of diffusers' or kohya's
        pipe = StableDiffusionXLPipeline.from_pretrained(sdxl)
        pipe.load_lora_weights(str(place))
        states, _, pooled, _ = pipe.encode_prompt(texts[0], device="cpu", do_classifier_free_guidance=False)
        torch.testing.assert_close(found.states, states, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.pooled, pooled, rtol=0, atol=1e-5)
    other = load_backbone(str(base))
    with pytest.raises(LikenessError, match="another base model: it is a LoRA for SDXL"):
        check_fit(lora, other, other.fingerprint, "x")


def test_another_base_model_is_one_line(base: Path, tmp_path: Path) -> None:
    place = write_lora(tmp_path / "s1", base, "diffusers", seed=3)
    lora, backbone = read_lora(place), load_backbone(str(base))
    check_fit(lora, backbone, backbone.fingerprint, "x")

    def refused(change: Callable[[dict], dict], words: str, about: dict | None = None) -> None:
        save_file(change(load_file(place)), tmp_path / "other.safetensors", about)
        with pytest.raises(LikenessError, match=words) as raised:
            check_fit(read_lora(tmp_path / "other.safetensors"), backbone, backbone.fingerprint, "other")
        assert "\n" not in str(raised.value)

    wide = next(name for name in load_file(place) if name.endswith("attn2.to_v.lora_A.weight"))
    refused(
        lambda t: t | {wide: torch.zeros(3, 2048)}, r"another base model: unet.*attn2.to_v takes 2048 numbers .* 32"
    )
    up = wide.replace("lora_A", "lora_B")
    refused(lambda t: t | {up: torch.zeros(7, 3)}, r"another base model: unet.*attn2.to_v gives 7 numbers")
    deep = {n.replace("attentions.0", "attentions.9"): v for n, v in load_file(place).items()}
    refused(lambda _: deep, r"another base model: this one has no such unet.*attentions.9")
    refused(lambda t: t, "was trained for base model 012345, this one is", {"backbone": "012345"})
    text2 = {f"text_encoder_2.{n}": v for n, v in load_file(place).items()}
    refused(lambda t: t | text2, "other was trained for another base model: it is a LoRA for SDXL")
    refused(lambda t: t, "is a LoRA for SDXL", {"ss_base_model_version": "sdxl_base_v1-0"})
    refused(lambda t: t | {wide.replace("lora_A.weight", "dora_scale"): torch.zeros(1)}, "is a DoRA, --lora reads LoRA")
    refused(lambda t: t | {"lora_unet_x.hada_w1_a": torch.zeros(1)}, "is a LoHa, --lora reads LoRA alone")
    refused(lambda t: {n: v for n, v in t.items() if n != wide}, "is no LoRA that Likeness knows: .*attn2.to_v.lora_B")
    refused(lambda t: {"weight": torch.zeros(2)}, "is no LoRA of peft, diffusers or kohya: it has weight")
    refused(lambda t: t, "its lora_adapter_metadata is damaged", {"lora_adapter_metadata": "["})


def test_what_is_no_lora_is_one_line(base: Path, tmp_path: Path) -> None:
    for place, words in ((tmp_path / "none", "no LoRA at"), (tmp_path, "neither a safetensors file nor a folder")):
        with pytest.raises(LikenessError, match=words):
            read_lora(place)
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(LikenessError, match="is not a readable LoRA in safetensors"):
        read_lora(tmp_path / "bad.safetensors")
    folder = write_lora(tmp_path / "s1", base, "peft", seed=4)
    config = folder / "unet" / "adapter_config.json"
    settings = json.loads(config.read_text())
    for changed, words in (
        ("{", "not a readable configuration of peft"),
        (json.dumps(settings | {"use_dora": True}), "is of a DoRA"),
        (json.dumps(settings | {"peft_type": "LOHA"}), "is of LOHA, --lora reads LoRA alone"),
    ):
        config.write_text(changed)
        with pytest.raises(LikenessError, match=words):
            read_lora(folder)
    patterned = {**settings, "alpha_pattern": {"attn2.to_q": 9.0}, "use_rslora": False}
    config.write_text(json.dumps(settings))
    plain = read_lora(folder).unet
    config.write_text(json.dumps(patterned))
    for name, value in read_lora(folder).unet.items():
        factor = 1.5 if name.endswith("attn2.to_q.lora_B.weight") else 1.0
        torch.testing.assert_close(value, plain[name] * factor)

"""Every method on a base model in the shape of SDXL."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from transformers import CLIPTokenizer

import lightning_modules
from contracts.batch import PairBatch, RequestBatch, SubjectBatch
from contracts.conditioning import Conditioning
from leaderboard.generate.generation import PromptOnly
from lightning_modules.base import PersonalisationModule
from lightning_modules.run import Run
from networks.attention import cross_attention_layers
from networks.backbone import Backbone, empty_backbone
from networks.sampler import SamplingSettings
from pocket.tiny.components import tiny_tokenizer
from tests.helpers.batches import METHODS, build, request_batch, training_batch
from tests.lightning_modules.test_methods import save_run

FEW = SamplingSettings("ddim", steps=2, guidance=3.0)
FULL = Path(__file__).parent / "sdxl"
CONFIGS = Path(__file__).parents[2] / "configs" / "sdxl"
PROMPT = "a photo of a person"
all_methods = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
Method = type[PersonalisationModule]


def requests(backbone: Backbone, size: int = 3) -> RequestBatch:
    return dataclasses.replace(request_batch(size), text_states=backbone.encode_text([PROMPT] * size))


def training(method: Method, backbone: Backbone) -> PairBatch | SubjectBatch:
    """What the method trains on, of photos that were larger than the image and not square."""
    batch = training_batch(method)
    sizes = torch.tensor([[80.0, 64.0 + i, 8.0, 0.0, 64.0, 64.0] for i in range(4)])
    if isinstance(batch, SubjectBatch):
        return dataclasses.replace(batch, sizes=sizes)
    text = backbone.encode_text([PROMPT, "", "a person on a beach", PROMPT]).of_photos(sizes)
    return dataclasses.replace(batch, text_states=text)


@all_methods
def test_scale_zero_generates_the_base_models_images_bit_for_bit(
    method: Method, sdxl_folder: Path, sdxl: Backbone
) -> None:
    module, floor, batch = build(method, sdxl), PromptOnly(str(sdxl_folder)), requests(sdxl)
    for negative in ("", "an oil painting of a person"):
        module.scale = 1.0  # type: ignore[assignment]
        module.sampling = floor.sampling = dataclasses.replace(FEW, negative_prompt=negative)
        identified = module.generate(batch)
        module.scale = 0.0  # type: ignore[assignment]
        base = floor.generate(batch)
        assert torch.equal(module.generate(batch), base)
        assert not torch.equal(identified, base), "with identity the images differ"


@all_methods
def test_a_run_folder_gives_the_method_back(method: Method, sdxl_folder: Path, sdxl: Backbone, tmp_path: Path) -> None:
    module = build(method, str(sdxl_folder)).eval()
    again = Run(save_run(module, tmp_path / "run")).load()
    module.sampling = again.sampling = FEW
    assert torch.equal(again.generate(requests(sdxl, 2)), module.generate(requests(sdxl, 2)))


@all_methods
def test_it_learns_and_nothing_else_does(method: Method, sdxl: Backbone) -> None:
    module, batch = build(method, sdxl).train(), training(method, sdxl)
    optimiser = torch.optim.Adam(module.parameter_groups(), lr=3e-3)
    totals = []
    for _ in range(8):
        total = torch.stack(list(module.loss_terms(batch).values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in sdxl.parameters())


@all_methods
def test_training_reads_pooled_text_and_the_photos_sizes(method: Method, sdxl: Backbone) -> None:
    """The photos' sizes reach every call of the UNet but those for class images, which are whole."""
    module, batch = build(method, sdxl), training(method, sdxl)
    read: list[dict[str, torch.Tensor]] = []
    sdxl.unet.register_forward_pre_hook(lambda _, given, more: read.append(more["added_cond_kwargs"]), with_kwargs=True)
    module.loss_terms(batch)  # type: ignore[arg-type]
    sizes = batch.sizes if isinstance(batch, SubjectBatch) else batch.text_states.sizes
    assert sizes is not None and read
    for given in read:
        assert torch.equal(given["time_ids"][:4], sizes)
        assert given["time_ids"][4:].tolist() == [[64, 64, 0, 0, 64, 64]] * (len(given["time_ids"]) - 4)
        assert given["text_embeds"].shape == (len(given["time_ids"]), 20)
    conditioning = module.train_conditioning(batch)  # type: ignore[arg-type]
    assert conditioning.pooled is not None and conditioning.pooled.abs().max() > 0


def test_stages_have_pooled_text_of_their_own(sdxl: Backbone) -> None:
    module = build(lightning_modules.SefiIDE, sdxl)
    conditioning = module.conditioning(requests(sdxl, 2))
    assert conditioning.pooled is not None and conditioning.pooled.shape == (2, 5, 20)
    steps = [conditioning.at(torch.tensor([t, t])).pooled for t in (0, 199, 200, 999)]
    assert steps[0] is not None and torch.equal(steps[0], steps[1])
    assert all(not torch.equal(steps[0], other) for other in steps[2:])


def test_a_conditioning_without_pooled_text_does_not_join_one_that_has_it(sdxl: Backbone) -> None:
    text = sdxl.encode_text([PROMPT])
    whole, part = Conditioning.from_text(text), Conditioning.from_text(dataclasses.replace(text, pooled=None))
    with pytest.raises(ValueError, match="must share stages, identity, pooled text"):
        whole + part


# --- the full size, without memory ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full() -> Backbone:
    return empty_backbone(FULL)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_base_model_is_sdxl(full: Backbone) -> None:
    assert full.latent_shape == (4, 128, 128) and full.resolution == 1024
    assert count(full.unet) == 2_567_463_684
    assert count(full.vae) == 83_653_863
    assert [count(encoder) for encoder in full.text.encoders] == [123_060_480, 694_659_840]
    assert full.text.widths == [768, 1280] and full.text.silent
    assert full.vae.config.scaling_factor == 0.13025 and full.vae.config.force_upcast
    layers = cross_attention_layers(full.unet)
    assert len(layers) == 70
    assert {attn.to_k.in_features for attn in layers.values()} == {2048}
    assert sorted({(attn.heads, attn.to_q.in_features) for attn in layers.values()}) == [(10, 640), (20, 1280)]


KEYS_AND_VALUES = 10 * 2 * 2048 * 640 + 60 * 2 * 2048 * 1280
QUERIES = 10 * 640**2 + 60 * 1280**2
TRAINED = {
    "spotdiff": {"attention": KEYS_AND_VALUES},
    "pidiff": {"attention": KEYS_AND_VALUES + QUERIES},
    "wplus_adapter": {"attention": KEYS_AND_VALUES + QUERIES},
    "ip_adapter": {"attention": KEYS_AND_VALUES, "project": 8_400_896},
    "ip_adapter_plus": {"attention": KEYS_AND_VALUES, "project": 82_961_664},
    "ip_adapter_faceid": {"attention": KEYS_AND_VALUES, "project": 8_926_208, "updates": 185_794_560},
}
A_SUBJECT = {"sefi_ide": 115_396_608, "textual_inversion": 2048, "dreambooth_lora": 5_806_080}


@pytest.mark.parametrize("name", [*TRAINED, *A_SUBJECT])
def test_every_configuration_builds_its_method_at_full_size(name: str, tmp_path: Path) -> None:
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    arguments = {k: v for k, v in config["model"]["init_args"].items() if k != "backbone"}
    tiny_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path, model_max_length=77)
    with torch.device("meta"):
        base = empty_backbone(FULL)
        base.text.tokenizers = (tokenizer, tokenizer)
        module = getattr(lightning_modules, config["model"]["class_path"].rpartition(".")[2])(base, **arguments)
    assert config["data"]["resolution"] == base.resolution
    for part, expected in TRAINED.get(name, {}).items():
        assert count(getattr(module, part)) == expected
    if name in A_SUBJECT:
        module.prepare({"a": "person"}, 1, seed=0)
        assert module.run_facts()["trainable_parameters"] == A_SUBJECT[name]


def test_there_is_a_configuration_for_every_one_of_sd15() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {path.stem for path in CONFIGS.parent.glob("*.yaml")}
    assert {*TRAINED, *A_SUBJECT} == {path.stem for path in CONFIGS.glob("*.yaml")}

"""What holds for every method that ``lightning_modules`` exports."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import DDIMScheduler

from contracts.errors import LikenessError
from contracts.files import write_atomically
from leaderboard.generate.generation import PromptOnly
from lightning_modules.base import PersonalisationModule
from lightning_modules.run import Run
from networks.backbone import Backbone, load_backbone
from networks.sampler import SamplingSettings
from pocket.tiny.components import tiny_base
from tests.helpers.batches import METHODS, build, features, request_batch, training_batch

pytestmark = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
Method = type[PersonalisationModule]
FEW = SamplingSettings("ddim", steps=2, guidance=3.0)


def save_run(module: PersonalisationModule, folder: Path, **arguments: object) -> Path:
    """The run folder that ``train.py`` would leave."""
    init = {name: value for name, value in module.hparams.items() if isinstance(value, int | float | str)}
    path = f"lightning_modules.{type(module).__name__}"
    write_atomically(
        folder / "config.yaml", yaml.safe_dump({"model": {"class_path": path, "init_args": init | arguments}}).encode()
    )
    module.save_adapter(folder / "adapter.safetensors")
    return folder


def test_scale_zero_generates_the_base_models_images_bit_for_bit(
    method: Method, base_folder: Path, backbone: Backbone
) -> None:
    module, floor = build(method, backbone), PromptOnly(str(base_folder))
    module.sampling = floor.sampling = FEW
    batch = request_batch()
    identified = module.generate(batch)
    module.scale = 0.0  # type: ignore[assignment]
    base = floor.generate(batch)
    assert torch.equal(module.generate(batch), base)
    assert not torch.equal(identified, base), "with identity the images differ"


def test_a_negative_prompt_takes_the_place_of_the_empty_text(
    method: Method, base_folder: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, floor, batch = build(method, backbone), PromptOnly(str(base_folder)), request_batch()
    module.sampling = FEW
    plain = module.generate(batch)
    module.sampling = floor.sampling = dataclasses.replace(FEW, negative_prompt="an oil painting of a person")
    avoided = module.generate(batch)
    assert not torch.equal(avoided, plain)
    module.scale = 0.0  # type: ignore[assignment]
    assert torch.equal(module.generate(batch), floor.generate(batch)), "at scale 0 it is the base model's"
    module.scale, module.sampling = 1.0, FEW  # type: ignore[assignment]
    encode = module.backbone.encode_text
    other = "an oil painting of a person"
    monkeypatch.setattr(module.backbone, "encode_text", lambda texts: encode([text or other for text in texts]))
    assert torch.equal(module.generate(batch), avoided), "as if the method itself knew no other empty text"


def test_predicting_and_validating_generate_the_same_images(method: Method, backbone: Backbone) -> None:
    module = build(method, backbone)
    module.sampling = FEW
    images = module.predict_step(request_batch(2), 0)
    assert images.shape == (2, 64, 64, 3) and images.dtype == torch.uint8
    assert torch.equal(module.validation_step(request_batch(2), 0), images)


def test_gradient_reaches_the_adapter_and_nothing_else(method: Method, backbone: Backbone) -> None:
    module = build(method, backbone).train()
    torch.stack(list(module.loss_terms(training_batch(method)).values())).sum().backward()
    optimised = [id(p) for group in module.parameter_groups() for p in group["params"]]
    trained = {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
    touched = {id(parameter) for parameter in module.parameters() if parameter.grad is not None}
    assert touched and touched <= trained
    assert not any(parameter.requires_grad for parameter in module.backbone.parameters())
    assert not any(part.training for part in module.backbone.modules())
    assert {id(p) for p in module.adapter().parameters() if p.requires_grad} <= trained
    assert sorted(optimised) == sorted(trained), "every trained weight is in exactly one group of the optimiser"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_is_what_the_base_model_predicts(method: Method, backbone: Backbone, prediction: str) -> None:
    backbone.scheduler = DDIMScheduler.from_config({**backbone.scheduler.config, "prediction_type": prediction})
    module, batch = build(method, backbone), training_batch(method)
    with torch.no_grad():
        conditioning = module.train_conditioning(batch)
        found = module.denoising_error(batch, conditioning)
        keep = backbone.scheduler.alphas_cumprod[batch.timestep].view(-1, 1, 1, 1)
        z = backbone.latents_from_moments(batch.moments, batch.latent_noise)
        output = module.denoise(keep.sqrt() * z + (1 - keep).sqrt() * batch.noise, batch.timestep, conditioning)
    target = keep.sqrt() * batch.noise - (1 - keep).sqrt() * z if prediction == "v_prediction" else batch.noise
    torch.testing.assert_close(found, (output - target).pow(2).mean(dim=(1, 2, 3)))
    assert found.shape == (4,)


def test_loss_terms_are_named_numbers_that_fall(method: Method, backbone: Backbone) -> None:
    module, batch = build(method, backbone), training_batch(method)
    optimiser = torch.optim.Adam(module.parameter_groups(), lr=3e-3)
    totals = []
    for _ in range(20):
        terms = module.loss_terms(batch)
        assert all(value.shape == () for value in terms.values())
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]


def test_a_checkpoint_holds_no_frozen_weight_and_is_loaded_strictly(method: Method, base_folder: Path) -> None:
    module = build(method, load_backbone(str(base_folder)))
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    state = checkpoint["state_dict"]
    assert state and not any(name.startswith("backbone.") for name in state)
    assert checkpoint["backbone_fingerprint"] == module.backbone.fingerprint
    other = build(method, load_backbone(str(base_folder)))
    for parameter in other.adapter().parameters():
        parameter.data.zero_()
    other.load_state_dict(state)
    loaded = {name: value for name, value in other.state_dict().items() if name in state}
    extra = {name for name in state if name.endswith("_extra_state")}
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state.keys() - extra)
    assert all(loaded[name] == state[name] for name in extra)
    first, value = next((name, value) for name, value in state.items() if name not in extra and value.ndim)
    for wrong, words in (
        ({k: v for k, v in state.items() if k != first}, "is missing, expected"),
        ({**state, first: value[..., None]}, "expected"),
    ):
        with pytest.raises(LikenessError, match="does not fit these model settings") as raised:
            other.load_state_dict(wrong)
        line = str(raised.value)
        assert first in line and words in line and "take another --output" in line and "\n" not in line


def test_a_run_folder_gives_the_method_back(method: Method, base_folder: Path, tmp_path: Path) -> None:
    module = build(method, str(base_folder)).eval()
    again = Run(save_run(module, tmp_path / "run")).load()
    module.sampling = again.sampling = FEW
    assert type(again) is method and not again.training
    assert torch.equal(again.generate(request_batch(2)), module.generate(request_batch(2)))


def test_a_run_is_not_loaded_onto_another_base_model(method: Method, base_folder: Path, tmp_path: Path) -> None:
    folder = save_run(build(method, str(base_folder)), tmp_path / "run")
    other = tiny_base(tmp_path / "other", seed=1)
    with pytest.raises(LikenessError, match="was trained for backbone"):
        Run(folder).load(backbone=str(other))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "is not a run folder of train.py"),
        ("model: [", "is not a run folder of train.py"),
        ("data: {}", "is not a run folder of train.py"),
        ("model: {class_path: os.system}", "is not one of this project's methods"),
        ("model: {class_path: lightning_modules_of_mine.Method}", "is not one of this project's methods"),
        ("model: {class_path: lightning_modules.Nothing}", "is not one of this project's methods"),
        ("model: {class_path: lightning_modules.base.nn}", "is not one of this project's methods"),
    ],
)
def test_what_is_no_run_folder_is_one_line(method: Method, tmp_path: Path, config: str | None, message: str) -> None:
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(LikenessError, match=message) as raised:
        Run(tmp_path).load()
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


def test_arguments_that_the_method_does_not_know_are_one_line(
    method: Method, base_folder: Path, tmp_path: Path
) -> None:
    folder = save_run(build(method, str(base_folder)), tmp_path / "run", colour="blue")
    with pytest.raises(LikenessError, match=r"config.yaml.*colour") as raised:
        Run(folder).load()
    assert "\n" not in str(raised.value)


def test_settings_and_manifest_are_read_without_weights(method: Method, tmp_path: Path) -> None:
    path = f"lightning_modules.{method.__name__}"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"class_path": path}}))
    run = Run(tmp_path)
    assert (run.method, run.arguments) == (method, {})
    assert Run(tmp_path).manifest == {}
    (tmp_path / "manifest.json").write_text(json.dumps({"steps": 3}))
    assert Run(tmp_path).manifest == {"steps": 3}
    for damaged in ("{", "[3]", '{"steps": NaN}'):
        (tmp_path / "manifest.json").write_text(damaged)
        with pytest.raises(LikenessError, match=r"manifest\.json' is damaged"):
            _ = Run(tmp_path).manifest


def test_images_do_not_depend_on_their_batch(method: Method, backbone: Backbone) -> None:
    module, batch = build(method, backbone), request_batch(5)
    module.sampling = FEW
    together = module.generate(batch)
    for i in range(5):
        one = slice(i, i + 1)
        part = dataclasses.replace(
            batch,
            request_ids=batch.request_ids[one],
            subjects=batch.subjects[one],
            prompts=batch.prompts[one],
            noise=batch.noise[one],
            text_states=batch.text_states[one],
            reference={name: value[one] for name, value in batch.reference.items()},
        )
        assert (module.generate(part).int() - together[one].int()).abs().max() <= 1


def test_several_photos_are_averaged_or_all_read(method: Method, backbone: Backbone) -> None:
    """The same photo three times is that photo. The order of different ones does not matter."""
    module, batch = build(method, backbone), request_batch(2)
    module.sampling = FEW
    one = module.generate(batch)
    others = [features(2, key) for key in ("second photo", "third photo")]
    for tokens in ("average", "all"):
        module.reference_tokens = tokens  # type: ignore[assignment]
        same = {name: value[:, None].expand(-1, 2, *value.shape[1:]) for name, value in batch.reference.items()}
        again = module.generate(dataclasses.replace(batch, further=same))
        assert (again.int() - one.int()).abs().max() <= 1
        if not module.needs:
            continue
        images = []
        for first, *rest in ([batch.reference, *others], [*others, batch.reference]):
            further = {name: torch.stack([photo[name] for photo in rest], dim=1) for name in first}
            images.append(module.generate(dataclasses.replace(batch, reference=first, further=further)))
        assert (images[0].int() - images[1].int()).abs().max() <= 1
        assert (images[0].int() - one.int()).abs().max() > 1

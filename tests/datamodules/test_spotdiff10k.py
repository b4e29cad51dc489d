"""The DataModule with a real Trainer: encoded once, resumed exactly, the same for one and two processes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn

from contracts.batch import FactorBatch, PairBatch
from contracts.errors import LikenessError
from datamodules.batches.experts import ExpertStage
from datamodules.batches.pairs import Drops
from datamodules.chosen import ChosenPhotos
from datamodules.features.cache import content_key
from datamodules.features.store import Features
from datamodules.image_io import read_square
from datamodules.index import read_photos
from datamodules.schema import features
from datamodules.spotdiff10k import SpotDiff10kDataModule
from networks.backbone import load_backbone
from networks.clip_image import load_clip_image
from pocket.render.dataset import Grid, rows_of
from pocket.tiny.components import tiny_base
from tests.datamodules.conftest import World
from tests.helpers.distributed import run_ranks

EXPERTS = ExpertStage(steps=3, batch_size=12)


class _Tiny(LightningModule):
    """Learns something from every random tensor of a batch and notes what it saw."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.scale = nn.Conv2d(4, 4, 1)
            self.head = nn.Linear(32, 4)
        self.seen: list[tuple[str, ...]] = []

    def training_step(self, batch: PairBatch | FactorBatch, batch_idx: int) -> Tensor:
        self.seen.append(batch.sample_ids)
        if isinstance(batch, FactorBatch):
            return self.head(batch.features["clip"]).square().mean()
        mean, log_variance = batch.moments.chunk(2, dim=1)
        latent = mean + (log_variance / 2).exp() * batch.latent_noise
        keep = (~batch.drop_identity).float()[:, None]
        shift = self.head(batch.reference["clip"] * keep)[..., None, None]
        text = (batch.text_states.states.mean(dim=(1, 2)) + batch.timestep / 1000)[:, None, None, None]
        return (self.scale(latent + batch.noise) * batch.mask + shift - text).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class _Crash(Callback):
    """Stops the run in the middle of a step, as a killed process would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_before_optimizer_step(self, trainer: Trainer, *_: Any) -> None:
        if trainer.fit_loop.total_batch_idx == self.at:
            raise KeyError("killed")


def _trainer(folder: Path, callbacks: tuple[Callback, ...] = (), **settings: Any) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        callbacks=list(callbacks),
        **{
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": bool(callbacks),
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
            **settings,
        },
    )


def _weights(module: LightningModule) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


# 96 training photos: 24 batches of 4 an epoch.
@pytest.mark.parametrize(
    ("settings", "data", "saved", "killed"),
    [
        ({"max_steps": 11}, {"first_stage": EXPERTS}, 2, 3),  # in stage 1, resumed into stage 2
        ({"max_steps": 30}, {}, 26, 28),  # in the second epoch of the data
        ({"max_epochs": 3}, {"batch_size": 32}, 3, 3),  # at the end of a trainer's epoch
        ({"max_epochs": 3}, {"batch_size": 32}, 4, 5),  # in the middle of one
        ({"max_steps": 8, "accumulate_grad_batches": 2}, {"first_stage": EXPERTS}, 3, 9),
        ({"max_steps": 9}, {"num_workers": 2}, 4, 6),
    ],
    ids=["stages", "second-epoch", "boundary", "mid-epoch", "accumulation", "workers"],
)
def test_a_killed_run_resumes_exactly(
    world: World, ready: SpotDiff10kDataModule, tmp_path: Path, settings: dict, data: dict, saved: int, killed: int
) -> None:
    unbroken = _Tiny()
    _trainer(tmp_path, **settings).fit(unbroken, world.datamodule(**data))

    checkpoint = ModelCheckpoint(tmp_path, every_n_train_steps=saved, save_top_k=-1, filename="{step}")
    first = _Tiny()
    with pytest.raises(KeyError, match="killed"):
        _trainer(tmp_path, (checkpoint, _Crash(killed)), **settings).fit(first, world.datamodule(**data))

    torch.manual_seed(99)  # nothing may depend on the global generator
    second = _Tiny()
    path = tmp_path / f"step={saved}.ckpt"
    _trainer(tmp_path, **settings).fit(second, world.datamodule(**data), ckpt_path=str(path), weights_only=True)

    done = saved * settings.get("accumulate_grad_batches", 1)
    assert first.seen[:done] + second.seen == unbroken.seen
    assert torch.equal(_weights(second), _weights(unbroken))


def test_two_processes_train_as_one(world: World, ready: SpotDiff10kDataModule, tmp_path: Path) -> None:
    settings = {"max_steps": 6}

    def work() -> tuple[list[tuple[str, ...]], Tensor]:
        module = _Tiny()
        _trainer(tmp_path, devices=2, strategy="ddp_find_unused_parameters_true", **settings).fit(
            module, world.datamodule(first_stage=ExpertStage(steps=2, batch_size=12))
        )
        return module.seen, _weights(module)

    (seen0, weights0), (seen1, weights1) = run_ranks(work)
    alone = _Tiny()
    _trainer(tmp_path, **settings).fit(alone, world.datamodule(first_stage=ExpertStage(steps=2, batch_size=12)))
    assert torch.allclose(weights0, _weights(alone), atol=1e-5)
    assert torch.equal(weights0, weights1)
    assert seen0[:2] == seen1[:2] == alone.seen[:2]
    for a, b, both in zip(seen0[2:], seen1[2:], alone.seen[2:], strict=True):
        assert a == both[::2]
        assert b == both[1::2]


def test_a_run_resumes_with_another_number_of_processes(
    world: World, ready: SpotDiff10kDataModule, tmp_path: Path
) -> None:
    checkpoint = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1, filename="{step}")
    _trainer(tmp_path, (checkpoint,), max_steps=3).fit(_Tiny(), world.datamodule())

    def work() -> Tensor:
        module = _Tiny()
        trainer = _trainer(tmp_path, devices=2, strategy="ddp", max_steps=6)
        trainer.fit(module, world.datamodule(), ckpt_path=str(tmp_path / "step=3.ckpt"), weights_only=True)
        return _weights(module)

    unbroken = _Tiny()
    _trainer(tmp_path, max_steps=6).fit(unbroken, world.datamodule())
    assert torch.allclose(run_ranks(work)[0], _weights(unbroken), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 8}, r"`batch_size` differs \(4 there, 8 here\)"),
        ({"seed": 1}, "`seed` differs"),
        (
            {"first_stage": ExpertStage(steps=1, batch_size=12)},
            r"`first_stage\.kind` differs \(None there, ExpertStage here\)",
        ),
        ({"drops": Drops(text=0.2)}, r"`drops\.text` differs"),
        ({"subjects": ["s0000", "s0001", "s0002"]}, "`data` differs"),
    ],
)
def test_resuming_on_other_batches_is_refused(
    world: World, ready: SpotDiff10kDataModule, change: dict, said: str
) -> None:
    there, here = world.datamodule(), world.datamodule(**change)
    there.setup("fit")
    here.setup("fit")
    here.load_state_dict(here.state_dict())
    with pytest.raises(LikenessError, match=said):
        here.load_state_dict(there.state_dict())


def _count_encoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    calls: list[tuple[str, int]] = []
    encode = Features._encode

    def counted(self: Features, name: str, batch: list) -> Tensor:
        calls.append((name, len(batch)))
        return encode(self, name, batch)

    monkeypatch.setattr(Features, "_encode", counted)
    return calls


def test_each_item_is_encoded_once_by_one_of_the_processes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _count_encoded(monkeypatch)

    def work() -> tuple[list[tuple[str, int]], list[int]]:
        trainer = _trainer(tmp_path, devices=2, strategy="ddp", max_steps=1)
        datamodule = world.datamodule(cache_dir=str(tmp_path))
        trainer.fit(_Tiny(), datamodule)
        return calls, [len(datamodule.features[name]._where) for name in ("moments", "clip", "mask", "text")]

    (calls0, known0), (calls1, known1) = run_ranks(work)
    assert known0 == known1
    for name, expected in zip(("moments", "clip", "mask", "text"), known0, strict=True):
        counts = [sum(n for what, n in some if what == name) for some in (calls0, calls1)]
        assert sum(counts) == expected
        assert abs(counts[0] - counts[1]) <= 1

    again = world.datamodule(cache_dir=str(tmp_path))
    again.setup("fit")
    assert not calls


def test_a_damaged_cache_is_encoded_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.datamodule(cache_dir=str(tmp_path), subjects=["s0000", "s0001"])
    first.setup("fit")
    expected = first.batches[0]
    for folder in (tmp_path / "features").iterdir():
        (shard,) = folder.glob("*.safetensors")
        data = bytearray(shard.read_bytes())
        data[-3] ^= 1
        shard.write_bytes(data)
    calls = _count_encoded(monkeypatch)
    second = world.datamodule(cache_dir=str(tmp_path), subjects=["s0000", "s0001"])
    second.setup("fit")
    assert {name for name, _ in calls} == {"moments", "clip", "mask", "text"}
    found = second.batches[0]
    assert torch.equal(found.moments, expected.moments)
    assert torch.equal(found.text_states.states, expected.text_states.states)


def test_another_encoder_is_another_cache(world: World, ready: SpotDiff10kDataModule, tmp_path: Path) -> None:
    other = world.datamodule(backbone=str(tiny_base(tmp_path / "base", seed=1)), subjects=["s0000", "s0001"])
    other.setup("fit")
    keys = [p.sha256 for p in ready.photos["train"][:4]]
    assert not torch.equal(other.features["moments"].rows(keys), ready.features["moments"].rows(keys))
    assert torch.equal(other.features["clip"].rows(keys), ready.features["clip"].rows(keys))


def test_cached_features_are_the_encoders_outputs(world: World, ready: SpotDiff10kDataModule) -> None:
    pictures = list(read_photos(ready.photos["train"][:3]))
    pixels = torch.stack([torch.tensor(read_square(p.image, "x", 64)) for p in pictures])
    keys = [p.photo.sha256 for p in pictures]
    moments = load_backbone(str(world.base)).encode_moments(pixels)
    assert torch.allclose(ready.features["moments"].rows(keys), moments, atol=1e-5)
    assert torch.allclose(ready.features["clip"].rows(keys), load_clip_image(str(world.clip)).encode(pixels), atol=1e-5)


def test_validation_is_a_grid_over_subjects_that_are_not_trained_on(ready: SpotDiff10kDataModule) -> None:
    batches = list(ready.val_dataloader())
    assert [name for b in batches for name in b.request_ids] == ["s0008.v00.00", "s0008.v01.00"]
    assert batches[0].reference["clip"].shape == (2, 32)
    assert batches[0].noise.shape == (2, 4, 16, 16)


def test_validation_photos_are_the_reference_and_the_held_out_ones(ready: SpotDiff10kDataModule) -> None:
    (subject,) = ready.validation_photos()
    assert subject.id == "s0008" and subject.noun == "person"
    others = {p.background_text for p in ready.photos["val"] if p.subject_id == "s0008"}
    assert len(subject.held_out) == len(subject.poses) - 1 and set(subject.background_texts) <= others
    assert subject.mask is not None and 0 < (subject.mask == 255).mean() < 1


def test_without_a_trainer_the_loader_gives_both_stages(ready: SpotDiff10kDataModule) -> None:
    batches = list(ready.train_dataloader())
    assert [type(b) for b in batches] == [FactorBatch] * 2 + [PairBatch] * 24
    pairs = [name for b in batches[2:] for name in b.sample_ids]
    assert len(pairs) == len(set(pairs)) == 96


def test_mistakes_are_named(world: World, tmp_path: Path) -> None:
    def error(**arguments: Any) -> str:
        with pytest.raises(LikenessError) as caught:
            datamodule = world.datamodule(**arguments)
            datamodule.prepare_data()
            datamodule.setup("fit")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "dataset 'nowhere' is missing" in error(source="nowhere")
    assert "subject 's9999' is not in the training split" in error(subjects=["s9999"])
    assert "data.features.clip.encoder is missing" in error(features={"clip": {}})
    assert "unknown feature 'clop'; did you mean clip?" in error(features={"clop": {}})
    assert "data.features.clip has no setting 'encodr'; did you mean encoder?" in error(
        features={"clip": {"encodr": "x"}}
    )
    assert "batch_size is 0" in error(batch_size=0)
    assert "no model folder" in error(backbone="./nothing")
    test_only = _dataset(tmp_path / "test-only", rows_of(9, Grid(10, 2, 2)))
    assert "the training split" in error(source=str(test_only))
    assert "is empty" in error(source=str(test_only))
    broken = rows_of(0, Grid(10, 2, 2))
    broken[1]["image"]["bytes"] = b"not a picture"
    broken[1]["sha256"] = content_key(b"not a picture")
    said = error(source=str(_dataset(tmp_path / "broken", broken)))
    assert "part.parquet: row 1 (s0000:" in said
    assert "is no readable PNG, JPEG or WebP" in said


def _dataset(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir()
    Dataset.from_list(rows, features=features()).to_parquet(folder / "part.parquet")
    return folder


def test_the_datas_fingerprint_tells_content_and_names(ready: SpotDiff10kDataModule) -> None:
    """Names decide what is drawn for a sample, so other names are other data; so are other images under the same."""
    train = ready.photos["train"]
    found = {ready.fingerprint}
    for change in (
        {"photo_id": "holiday"},
        {"photo_id": "holiday", "sha256": "0" * 64},
        {"sha256": "0" * 64},
        {"caption": "a cat"},
    ):
        photos = [replace(train[0], **change), *train[1:]]
        found.add(ChosenPhotos.of(photos, "here", None, None).fingerprint)
    assert len(found) == 5

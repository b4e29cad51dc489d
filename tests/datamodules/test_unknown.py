"""A dataset of which much is not known feeds every kind of batch, or is refused before anything is encoded."""

import random
from pathlib import Path

import pytest
import torch
from datasets import Dataset

import train
from contracts.batch import FaceBatch, FactorBatch, PairBatch
from contracts.errors import LikenessError
from datamodules.batches.experts import ExpertStage
from datamodules.batches.faces import FaceStage
from datamodules.batches.pairs import Drops
from datamodules.features import store
from datamodules.schema import features
from datamodules.spotdiff10k import SpotDiff10kDataModule
from datamodules.validation import ValidationSettings
from pocket.render.dataset import rows_of
from pocket.tiny.world import GRID, TEST, TRAINING, VALIDATION, TinyWorld

UNKNOWN = ("pose_id", "pose", "background_id", "background_text", "mask", "bbox", "landmarks")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world's photos, a third of each column null."""
    folder = tmp_path_factory.mktemp("unknown")
    chance = random.Random(0)
    rows = [row for i in (*TRAINING, *VALIDATION, *TEST) for row in rows_of(i, GRID)]
    for row in rows:
        row |= {name: None for name in UNKNOWN if chance.random() < 1 / 3}
        row |= dict.fromkeys(("photo_id", "has_face", "role", "sha256"))
    Dataset.from_list(rows, features=features()).to_parquet(folder / "part.parquet")
    return folder


def test_spotdiff_trains_on_it_and_is_validated(tiny_world: TinyWorld, source: Path, tmp_path: Path) -> None:
    changes = {"data__source": source, "data__cache_dir": tmp_path / "cache", "trainer__max_steps": 4}
    prompts = '["a photo of a <subject>"]'
    assert train.main(tiny_world.arguments(tmp_path / "run", data__validation__prompts=prompts, **changes)) == 0
    assert (tmp_path / "run" / "adapter.safetensors").is_file()


def _data(world: TinyWorld, source: Path, cache: Path, **changes: object) -> SpotDiff10kDataModule:
    given = {**world.data(), "source": str(source), "cache_dir": str(cache), **changes}
    return SpotDiff10kDataModule(**given)


def test_batches_of_experts_pairs_and_faces_are_whole(tiny_world: TinyWorld, source: Path, tmp_path: Path) -> None:
    data = _data(
        tiny_world,
        source,
        tmp_path,
        features=tiny_world.wplus_feature(detector=str(tiny_world.faces)),
        first_stage=FaceStage(steps=1, texts=["a face"]),
        drops=Drops(0, 0, 0),
        validation=ValidationSettings(["a <subject>"], subjects=2),
    )
    data.setup("fit")
    faces, pairs = data.batches[0], [data.batches[k] for k in range(1, 1 + 24)]
    assert isinstance(faces, FaceBatch) and faces.moments.isfinite().all()
    assert {name for batch in pairs for name in batch.sample_ids} == {p.id for p in data.photos["train"]}
    whole = [p for p in data.photos["train"] if p.mask_sha256 is None]
    for batch in pairs:
        assert isinstance(batch, PairBatch) and batch.face is not None
        assert batch.mask.isfinite().all() and batch.face.isfinite().all() and batch.reference["wplus"].isfinite().all()
        for name, mask in zip(batch.sample_ids, batch.mask, strict=True):
            assert bool((mask == 1).all()) == (name in {p.id for p in whole}), (
                "a mask that is not known is the whole photo"
            )
    subjects = data.validation_photos()
    assert len(subjects) == 2 and all(len(s.held_out) == 11 and s.has_face for s in subjects)


def test_experts_have_their_photos(tiny_world: TinyWorld, source: Path, tmp_path: Path) -> None:
    data = _data(tiny_world, source, tmp_path, first_stage=ExpertStage(steps=3, batch_size=8))
    data.setup("fit")
    known = {p.id for p in data.photos["train"] if p.pose_id is not None and p.background_id is not None}
    for k in range(3):
        batch = data.batches[k]
        assert isinstance(batch, FactorBatch) and len(batch.sample_ids) >= 4 and set(batch.sample_ids) <= known
        assert torch.equal(batch.features["clip"], data.batches[k].features["clip"])


@pytest.mark.parametrize("lacking", ["landmarks", "classes", "class groups"])
def test_what_a_stage_lacks_is_said_before_anything_is_encoded(
    tiny_world: TinyWorld, source: Path, tmp_path: Path, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[object] = []
    monkeypatch.setattr(store.FeatureCache, "append", lambda *given: encoded.append(given))
    if lacking == "landmarks":
        data, said = (
            _data(tiny_world, source, tmp_path, features=tiny_world.wplus_feature()),
            r"wplus aligns faces by their landmarks, which are null for image s\S+ \(row \d+ of .*detector",
        )
    elif lacking == "classes":
        rows = [row | {"pose_id": None} for row in rows_of(0, GRID)]
        Dataset.from_list(rows, features=features()).to_parquet(tmp_path / "part.parquet")
        data, said = (
            _data(tiny_world, tmp_path, tmp_path, first_stage=ExpertStage(steps=1, batch_size=8)),
            r"the experts need at least two poses .* are known: 0 in 12 photos; fill the columns, or give data.first_",
        )
    else:
        data, said = (
            _data(tiny_world, source, tmp_path, first_stage=ExpertStage(steps=1, batch_size=128)),
            "no batch of 128 photos was found",
        )
    with pytest.raises(LikenessError, match=said) as caught:
        data.setup("fit")
    assert "\n" not in str(caught.value) and not encoded

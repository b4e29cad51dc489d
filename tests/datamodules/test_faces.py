"""What PIDiff trains on: aligned faces with their own codes, then pairs with head masks and other people."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from contracts.batch import FaceBatch, PairBatch
from contracts.errors import LikenessError
from datamodules.batches.faces import FaceStage, PersonStage
from datamodules.batches.pairs import PairStream
from datamodules.face_crops import aligned, portrait_of
from datamodules.features.base import EncoderContext
from datamodules.features.crops import FACE, SQUARE
from datamodules.features.registry import known_settings, make_features
from datamodules.index import read_photos, reference_of
from datamodules.spotdiff10k import SpotDiff10kDataModule
from networks.face_alignment import VERSION
from networks.wplus import load_wplus
from pocket.tiny.components import tiny_wplus
from pocket.tiny.world import TinyWorld

TEXTS = ["a photo of a person", "a person"]


def datamodule(world: TinyWorld, **changes: object) -> SpotDiff10kDataModule:
    stage = FaceStage(steps=2, texts=TEXTS)
    arguments = {**world.data(), "features": world.wplus_feature(), "first_stage": stage, **changes}
    module = SpotDiff10kDataModule(**arguments)
    module.setup()
    return module


@pytest.fixture(scope="module")
def ready(tiny_world: TinyWorld) -> SpotDiff10kDataModule:
    return datamodule(tiny_world)


def test_the_first_batches_are_faces_and_the_others_pairs(ready: SpotDiff10kDataModule) -> None:
    kinds = [type(ready.batches[k]) for k in range(4)]
    assert kinds == [FaceBatch, FaceBatch, PairBatch, PairBatch]


def test_an_aligned_face_comes_with_its_own_code(ready: SpotDiff10kDataModule, tiny_world: TinyWorld) -> None:
    batch = ready.batches[0]
    assert isinstance(batch, FaceBatch)
    photos = {p.id: p for p in ready.photos["train"]}
    encoder = load_wplus(str(tiny_world.wplus))
    for i, name in enumerate(batch.sample_ids):
        picture = next(iter(read_photos([photos[name]])))
        crop = aligned(portrait_of(picture), 64, None, background=True)
        torch.testing.assert_close(batch.reference["wplus"][i], encoder.encode(crop[None])[0], rtol=1e-4, atol=1e-4)
    assert batch.moments.shape == (4, 8, 16, 16) and len(batch.text_states) == 4


def test_a_reference_is_encoded_without_its_background(ready: SpotDiff10kDataModule, tiny_world: TinyWorld) -> None:
    photo = ready.photos["train"][0]
    picture = next(iter(read_photos([photo])))
    crop = aligned(portrait_of(picture), 64, None, background=False)
    expected = load_wplus(str(tiny_world.wplus)).encode(crop[None])
    torch.testing.assert_close(ready.features["wplus"].rows([photo.face_sha256]), expected, rtol=1e-4, atol=1e-4)


def test_the_other_person_is_another_one_and_does_not_move_the_rest(ready: SpotDiff10kDataModule) -> None:
    codes = {}
    for photo in ready.photos["train"]:
        codes[tuple(ready.features["wplus"].rows([photo.face_sha256])[0].flatten().tolist())] = photo.subject_id
    for k in range(2, 6):
        batch = ready.batches[k]
        assert isinstance(batch, PairBatch) and batch.face is not None
        for own, other in zip(batch.reference["wplus"], batch.other["wplus"], strict=True):
            assert codes[tuple(own.flatten().tolist())] != codes[tuple(other.flatten().tolist())]
        assert batch.face.shape == (4, 1, 16, 16) and (batch.face <= batch.mask + 0.35).all()
        assert 0 < batch.face.mean() < batch.mask.mean()


def test_a_batch_is_a_function_of_its_number(ready: SpotDiff10kDataModule, tiny_world: TinyWorld) -> None:
    """Two processes' halves are the batch of one."""
    halves = [PairStream(replace(ready.training_data, rank=rank, count=2))[3] for rank in (0, 1)]
    whole = ready.batches[3 + 2]
    assert isinstance(whole, PairBatch)
    for name in ("other", "reference"):
        joined = torch.stack([getattr(halves[i % 2], name)["wplus"][i // 2] for i in range(4)])
        assert torch.equal(joined, getattr(whole, name)["wplus"])


def test_features_without_faces_ask_for_neither_mask_nor_others(tiny_world: TinyWorld) -> None:
    module = datamodule(tiny_world, features=tiny_world.data()["features"], first_stage=None)
    batch = module.batches[0]
    assert isinstance(batch, PairBatch) and batch.face is None and batch.other == {}


def test_one_person_alone_has_no_other(tiny_world: TinyWorld, ready: SpotDiff10kDataModule) -> None:
    alone = datamodule(tiny_world, first_stage=None, subjects=[ready.photos["train"][0].subject_id])
    batch = alone.batches[0]
    assert isinstance(batch, PairBatch) and batch.other == {} and batch.face is not None


def test_keys_cover_all_that_a_face_is_made_of(ready: SpotDiff10kDataModule) -> None:
    photo = ready.photos["train"][0]
    assert SQUARE.key(photo) == photo.sha256
    moved = replace(photo, landmarks=((0.0, 0.0), *photo.landmarks[1:]))
    masked, boxed = replace(photo, mask_sha256="0" * 64), replace(photo, bbox=(0.0, 0.0, 1.0, 1.0))
    assert len({FACE.key(p) for p in (photo, moved, masked, boxed)}) == 4


def test_fingerprints_name_aligner_detector_and_weights(tiny_world: TinyWorld) -> None:
    def fingerprint(name: str) -> str:
        settings = tiny_world.wplus_feature(detector=str(tiny_world.faces))["wplus"]
        given = {setting: settings[setting] for setting in known_settings(name) if setting in settings}
        return make_features([name], {name: given}, EncoderContext(str(tiny_world.base), 64))[name].fingerprint

    assert VERSION in fingerprint("wplus")
    from networks.face_analysis import FacePack

    assert FacePack(tiny_world.faces).fingerprint in fingerprint("wplus")
    assert fingerprint("wplus") != fingerprint("wplus_background") != fingerprint("face_moments")


def test_a_stage_without_words_is_refused(tiny_world: TinyWorld) -> None:
    with pytest.raises(LikenessError, match=r"data\.first_stage\.texts is empty"):
        FaceStage(steps=2, texts=[])


def test_checkpoints_of_other_faces_are_refused(ready: SpotDiff10kDataModule, tiny_world: TinyWorld) -> None:
    without = datamodule(tiny_world, first_stage=None)
    state = ready.state_dict()
    for setting, value, said in (("steps", 3, "(3 there, 2 here)"), ("texts", ["a person"], "(['a person'] there")):
        with pytest.raises(LikenessError, match=re.escape(f"`first_stage.{setting}` differs {said}")):
            ready.load_state_dict(state | {"first_stage": state["first_stage"] | {setting: value}})
    with pytest.raises(LikenessError, match=r"`first_stage\.kind` differs \(FaceStage there, None here\)"):
        without.load_state_dict(state)
    with pytest.raises(LikenessError, match=r"`first_stage\.kind` differs \(None there, FaceStage here\)"):
        ready.load_state_dict(without.state_dict())


def test_checkpoints_of_other_encoders_are_refused(
    ready: SpotDiff10kDataModule, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    other = datamodule(
        tiny_world, features=tiny_world.wplus_feature(encoder=str(tiny_wplus(tmp_path / "other", seed=1)))
    )
    with pytest.raises(LikenessError, match=r"other batches: `encoder\.wplus` differs; take another") as raised:
        other.load_state_dict(ready.state_dict())
    assert "\n" not in str(raised.value)


def test_of_one_person_every_batch_is_the_same_photo_with_other_noise(tiny_world: TinyWorld) -> None:
    module = datamodule(tiny_world, first_stage=PersonStage(subject="s0034"))
    photo = reference_of(p for p in module.photos["val"] if p.subject_id == "s0034")
    first, second = module.batches[0], module.batches[1]
    assert isinstance(first, PairBatch) and isinstance(second, PairBatch)
    assert set(first.sample_ids) == {photo.id} and photo.split == "val" and photo.pose_id == 0
    code = module.features["wplus"].rows([photo.face_sha256])
    assert torch.equal(first.reference["wplus"], code.expand(4, -1, -1))
    assert not (first.other["wplus"] == code).all(dim=(1, 2)).any()
    noises = torch.cat([first.noise, second.noise]).flatten(1)
    assert len(noises.unique(dim=0)) == 8
    state = module.state_dict()
    with pytest.raises(LikenessError, match=r"`first_stage\.subject` differs \(s0033 there, s0034 here\)"):
        module.load_state_dict(state | {"first_stage": state["first_stage"] | {"subject": "s0033"}})
    with pytest.raises(LikenessError, match=r"`first_stage\.kind` differs \(PersonStage there, None here\)"):
        datamodule(tiny_world, first_stage=None).load_state_dict(state)

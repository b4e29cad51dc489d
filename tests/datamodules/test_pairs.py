"""What a training batch holds: cross views, keyed noise, groups for the experts."""

from dataclasses import replace

import pytest
import torch

from contracts.batch import FactorBatch, PairBatch
from contracts.errors import LikenessError
from contracts.text import Text
from datamodules.batches.experts import FactorStream
from datamodules.batches.pairs import Drops, PairStream
from datamodules.features.cache import content_key
from datamodules.index import Photo, cross_views
from datamodules.spotdiff10k import SpotDiff10kDataModule
from tests.helpers.distributed import run_ranks


def _pairs(ready: SpotDiff10kDataModule, **changes: object) -> PairStream:
    settings = {"batch_size": 8, "seed": 1, "drops": Drops(), **changes}
    return PairStream(replace(ready.training_data, **settings))  # type: ignore[arg-type]


def _photo_of(ready: SpotDiff10kDataModule, clip: torch.Tensor) -> Photo:
    """The training photo that a feature came from."""
    photos = ready.photos["train"]
    known = ready.features["clip"].rows([p.sha256 for p in photos])
    return photos[int((known - clip).abs().sum(dim=1).argmin())]


def test_reference_and_target_differ_in_pose_and_background(ready: SpotDiff10kDataModule) -> None:
    stream = _pairs(ready)
    chosen = set()
    for k in range(len(stream)):
        batch = stream[k]
        for name, target, reference in zip(
            batch.sample_ids, batch.second_view["clip"], batch.reference["clip"], strict=True
        ):
            a, b = _photo_of(ready, target), _photo_of(ready, reference)
            assert a.id == name
            assert a.subject_id == b.subject_id
            assert a.pose_id != b.pose_id
            assert a.background_id != b.background_id
            chosen.add(b.id)
    assert len(chosen) > len(stream.targets) / 3


def test_a_photo_may_be_its_own_reference(ready: SpotDiff10kDataModule) -> None:
    cross, same = _pairs(ready)[0], _pairs(ready, pairs="same")[0]
    assert same.sample_ids == cross.sample_ids and torch.equal(same.noise, cross.noise)
    assert torch.equal(same.reference["clip"], same.second_view["clip"])
    assert torch.equal(same.second_view["clip"], cross.second_view["clip"])
    assert not torch.equal(cross.reference["clip"], cross.second_view["clip"])


def test_shapes_and_features_are_those_of_the_photos(ready: SpotDiff10kDataModule) -> None:
    batch = _pairs(ready, drops=Drops(0, 0, 0))[0]
    assert batch.moments.shape == (8, 8, 16, 16)
    assert batch.noise.shape == batch.latent_noise.shape == (8, 4, 16, 16)
    assert batch.mask.shape == (8, 1, 16, 16)
    assert 0 <= batch.mask.min() < batch.mask.max() <= 1
    assert batch.timestep.dtype == torch.int64
    photos = {p.id: p for p in ready.photos["train"]}
    captions = [content_key(photos[name].caption) for name in batch.sample_ids]
    assert torch.equal(batch.text_states.states, ready.features["text"].rows(captions))
    assert not batch.drop_identity.any()
    assert not torch.equal(batch.noise, batch.latent_noise)


def test_a_batch_is_a_function_of_seed_and_number(ready: SpotDiff10kDataModule) -> None:
    stream = _pairs(ready)
    stream[7]
    torch.manual_seed(5)
    _assert_equal(stream[3], _pairs(ready)[3])
    assert _pairs(ready, seed=2)[3].sample_ids != stream[3].sample_ids
    later = _pairs(ready)[3 + len(stream)]
    assert not torch.equal(later.noise, stream[3].noise)


def test_noise_belongs_to_the_sample_not_to_the_batch_size(ready: SpotDiff10kDataModule) -> None:
    large = _pairs(ready, batch_size=12)[0]
    small = [_pairs(ready, batch_size=3)[k] for k in range(4)]
    assert sum((b.sample_ids for b in small), ()) == large.sample_ids
    for name in ("noise", "latent_noise", "timestep", "drop_identity"):
        assert torch.equal(torch.cat([getattr(b, name) for b in small]), getattr(large, name))
    states = [b.text_states.states for b in small]
    assert torch.equal(torch.cat(states), large.text_states.states)


def test_two_processes_see_the_same_global_batches(ready: SpotDiff10kDataModule) -> None:
    def rank_batches() -> list[PairBatch]:
        stream = _pairs(ready, rank=torch.distributed.get_rank(), count=torch.distributed.get_world_size())
        return [stream[k] for k in range(5)]

    ranks = run_ranks(rank_batches)
    for k, whole in enumerate(_pairs(ready)[k] for k in range(5)):
        parts = [ranks[rank][k] for rank in (0, 1)]
        for rank, part in enumerate(parts):
            assert part.sample_ids == whole.sample_ids[rank::2]
            assert torch.equal(part.noise, whole.noise[rank::2])
            assert torch.equal(part.reference["clip"], whole.reference["clip"][rank::2])


def test_drops_occur_at_their_rates(ready: SpotDiff10kDataModule) -> None:
    stream = _pairs(ready, batch_size=96, drops=Drops(0.2, 0.3, 0.1))
    batches = [stream[k] for k in range(10)]
    empty = ready.features["text"].rows([content_key("")])
    no_text = torch.cat([(b.text_states.states == empty).flatten(1).all(dim=1) for b in batches])
    no_identity = torch.cat([b.drop_identity for b in batches])
    assert no_identity.float().mean() == pytest.approx(0.3, abs=0.05)
    assert no_text.float().mean() == pytest.approx(0.4, abs=0.05)
    assert (no_text & no_identity).float().mean() == pytest.approx(0.1, abs=0.04)


def test_drop_rates_are_checked() -> None:
    with pytest.raises(LikenessError, match="drop rates"):
        Drops(0.5, 0.4, 0.2)
    with pytest.raises(LikenessError, match="drop rates"):
        Drops(-0.1, 0, 0)


def _groups(ready: SpotDiff10kDataModule, photos: list[Photo], size: int = 12) -> FactorStream:
    return FactorStream(replace(ready.training_data, photos=photos, seed=1), size)


@pytest.mark.parametrize("size", [6, 12, 20])
def test_every_label_of_a_group_has_two_subjects(ready: SpotDiff10kDataModule, size: int) -> None:
    stream = _groups(ready, ready.photos["train"], size)
    for k in range(20):
        batch = stream[k]
        assert len(set(batch.sample_ids)) == size
        for labels in (batch.pose, batch.background):
            for label in labels.unique():
                assert len(batch.subject[labels == label].unique()) >= 2
        assert torch.equal(batch.features["clip"], stream[k].features["clip"])
    assert stream[0].sample_ids != stream[1].sample_ids


def test_groups_of_photos_that_are_no_grid(ready: SpotDiff10kDataModule) -> None:
    batch = _groups(ready, ready.photos["train"][::3], 10)[0]
    for labels in (batch.pose, batch.background):
        assert all(len(batch.subject[labels == label].unique()) >= 2 for label in labels.unique())


def test_pairs_of_photos_of_which_little_is_known(ready: SpotDiff10kDataModule) -> None:
    """Every photo is a target. Its reference is apart in both classes, else in what is known, else any other photo."""

    def views(photo: Photo, photos: list[Photo]) -> set[str]:
        return {view.id for view in _pairs(ready, photos=photos).views(photo)}

    def but(*some: Photo) -> set[str]:
        return {p.id for p in photos} - {p.id for p in some}

    photos = [p for p in ready.photos["train"] if p.subject_id == "s0000"]
    first = photos[0]
    nothing = [replace(p, pose_id=None, background_id=None) for p in photos]
    assert len(_pairs(ready, photos=nothing).targets) == len(photos)
    assert views(nothing[0], nothing) == but(first)
    places = [replace(p, pose_id=None) for p in photos]
    assert views(places[0], places) == {p.id for p in photos if p.background_id != first.background_id}
    some = [replace(p, pose_id=None) if p.pose_id else p for p in photos]
    assert views(some[0], some) == {p.id for p in photos if p.pose_id and p.background_id != first.background_id}
    one = [replace(p, pose_id=0, background_id=0) for p in photos]
    assert views(one[0], one) == but(first), "where all are alike, any other will do"
    known = [replace(p, pose_id=None) if p.background_id == first.background_id else p for p in photos[1:]]
    assert views(first, [first, *known]) == {p.id for p in cross_views(first, photos)}, (
        "known ones go before unknown ones"
    )


def test_experts_learn_from_photos_whose_classes_are_known(ready: SpotDiff10kDataModule) -> None:
    photos = [replace(p, pose_id=None) if i % 3 == 0 else p for i, p in enumerate(ready.photos["train"])]
    photos = [replace(p, background_id=None) if i % 5 == 0 else p for i, p in enumerate(photos)]
    known = {p.id for p in photos if p.pose_id is not None and p.background_id is not None}
    stream = _groups(ready, photos, 12)
    for k in range(10):
        batch = stream[k]
        assert set(batch.sample_ids) <= known
        for labels in (batch.pose, batch.background):
            assert all(len(batch.subject[labels == label].unique()) >= 2 for label in labels.unique())


def test_data_without_pairs_or_groups_is_refused(ready: SpotDiff10kDataModule) -> None:
    photos = ready.photos["train"]
    with pytest.raises(LikenessError, match="no training subject has two photos: there are no pairs"):
        _pairs(ready, photos=list({p.subject_id: p for p in photos}.values()))
    with pytest.raises(LikenessError, match=r"at least two poses .*both `pose_id` and `background_id` are known: 1 in"):
        _groups(ready, [replace(p, pose_id=0) for p in photos])
    with pytest.raises(LikenessError, match=r"at least two backgrounds|at least two poses .* 0 in"):
        _groups(ready, [replace(p, background_id=None) for p in photos])
    with pytest.raises(LikenessError, match="at least two poses"):
        _groups(ready, [p for p in photos if p.subject_id == "s0000"])
    with pytest.raises(LikenessError, match="no batch of 500 photos"):
        _groups(ready, photos, 500)
    with pytest.raises(LikenessError, match="divisible by 3"):
        _pairs(ready, count=3)


def _assert_equal(a: PairBatch | FactorBatch, b: PairBatch | FactorBatch) -> None:
    for name, value in vars(a).items():
        other = getattr(b, name)
        if isinstance(value, dict):
            assert all(torch.equal(value[key], other[key]) for key in value)
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, other), name
        elif isinstance(value, Text):
            assert torch.equal(value.states, other.states), name
        else:
            assert value == other, name

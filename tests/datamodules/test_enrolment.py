from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from contracts.errors import LikenessError
from datamodules.batches.subjects import EnrolmentSettings, caption_with_placeholder
from datamodules.index import Photo, load_photos, reference_of, references_of
from datamodules.schema import features
from datamodules.sources import find_shards
from datamodules.spotdiff10k import SpotDiff10kDataModule
from datamodules.validation import ValidationSettings
from pocket.render.dataset import rows_of
from pocket.tiny.world import GRID, TEST, TinyWorld
from tests.helpers.enrolment import NAMES

ROLES = ["held_out", "reference", "reference", "held_out", "reference"]
FIELDS = ("moments", "latent_noise", "noise", "timestep")


def data(world: TinyWorld, subjects: list[str] | None = None, **settings: object) -> SpotDiff10kDataModule:
    module = SpotDiff10kDataModule(
        **{**world.data(), "features": {}},
        subjects=subjects,
        enrolment=EnrolmentSettings(**{"steps": 3, **settings}),
    )
    module.setup()
    return module


def photos(world: TinyWorld) -> list[Photo]:
    return load_photos(find_shards(str(world.dataset)), world.cache)


def test_each_subject_has_its_one_reference_photo(tiny_world: TinyWorld) -> None:
    enrolment = data(tiny_world).enrolment
    assert enrolment is not None
    own = {name: [p for p in photos(tiny_world) if p.subject_id == name] for name in NAMES}
    assert enrolment.photos == {name: [reference_of(own[name])] for name in NAMES}
    assert len(enrolment) == 3 and enrolment.groups == [NAMES]


def test_photos_that_the_data_set_calls_references_take_turns(tiny_world: TinyWorld, tmp_path: Path) -> None:
    rows = [{**row, "role": role} for row, role in zip(rows_of(TEST[0], GRID), ROLES, strict=False)]
    Dataset.from_list(rows, features=features()).to_parquet(tmp_path / "some.parquet")
    prompts = ["a photo of a <subject>", "a <subject>"]
    module = SpotDiff10kDataModule(
        **{**tiny_world.data(), "source": str(tmp_path), "features": {}},
        enrolment=EnrolmentSettings(steps=8, prompts=[*prompts]),
    )
    module.setup()
    enrolment = module.enrolment
    assert enrolment is not None
    called = [row["sha256"] for row, role in zip(rows, ROLES, strict=True) if role == "reference"]
    assert sorted(p.sha256 for p in enrolment.photos[NAMES[0]]) == sorted(called) and len(called) == 3
    first, second, third = (module.features["moments"].rows([p.sha256])[0] for p in enrolment.every_photo)
    for step, (prompt, moments) in enumerate(
        zip(prompts * 4, [first, first, second, second, third, third, first, first], strict=True)
    ):
        batch = module.batches[step]
        assert batch.prompts == (prompt,) and torch.equal(batch.moments[0], moments)
    assert sorted(module.batches[0].group) == [NAMES[0]]


def test_so_many_photos_as_are_asked_for_take_turns(tiny_world: TinyWorld) -> None:
    """The data set calls one photo a reference and leaves some open."""
    own = {name: [p for p in photos(tiny_world) if p.subject_id == name] for name in NAMES}
    module = data(tiny_world, references=3, steps=3)
    assert module.enrolment is not None
    assert module.enrolment.photos == {name: references_of(own[name], 3) for name in NAMES}
    seen = [module.batches[step].moments[0] for step in range(3)]
    assert len({moments.numpy().tobytes() for moments in seen}) == 3
    assert "references" not in data(tiny_world).state_dict()["enrolment"], "checkpoints are as they were"
    few = len([p for p in own[NAMES[0]] if p.role != "held_out"])
    with pytest.raises(LikenessError, match=f"has {few} photos .*, data.enrolment.references asks for {few + 1}: add"):
        data(tiny_world, references=few + 1)
    with pytest.raises(LikenessError, match=r"data.enrolment.references is 0, it must be at least 1"):
        EnrolmentSettings(references=0)


def test_subjects_of_any_split_can_be_named(tiny_world: TinyWorld) -> None:
    some = sorted({p.subject_id for p in photos(tiny_world) if p.split == "train"})[:2]
    enrolment = data(tiny_world, [some[1], NAMES[0], some[0]], at_once=2).enrolment
    assert enrolment is not None and enrolment.groups == [(some[0], some[1]), (NAMES[0],)]
    assert len(enrolment) == 6


def test_a_row_depends_on_its_subject_alone(tiny_world: TinyWorld) -> None:
    together, alone = data(tiny_world), data(tiny_world, [NAMES[2]])
    for number, (one, three) in enumerate(zip(alone.train_dataloader(), together.train_dataloader(), strict=True)):
        assert three.group == three.subjects == NAMES and one.subjects == (NAMES[2],)
        assert one.step == three.step == number
        for name in FIELDS:
            assert torch.equal(getattr(one, name)[0], getattr(three, name)[2]), name
    first, second = data(tiny_world).batches[0], data(tiny_world).batches[1]
    assert not torch.equal(first.noise, second.noise) and not torch.equal(first.noise[0], first.noise[1])


def test_timesteps_are_spread_over_the_stages(tiny_world: TinyWorld) -> None:
    stream = data(tiny_world, steps=1000).batches
    times = torch.stack([stream[number].timestep for number in range(0, 1000, 4)])
    assert int(times.min()) >= 0 and int(times.max()) <= 999 and len(times[:, 0].unique()) > 200
    for subject in times.T:
        assert torch.bincount(subject // 200, minlength=5).tolist() == pytest.approx([50] * 5, abs=4)
    first = torch.cat([stream[number].timestep[:1] for number in range(10)])
    assert torch.bincount(first // 200, minlength=5).tolist() == pytest.approx([2] * 5, abs=1)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_processes_divide_a_group_without_padding(tiny_world: TinyWorld, count: int) -> None:
    module = data(tiny_world)
    assert module.enrolment is not None
    whole = module.batches[1]
    parts = [module.enrolment.stream(module.features, rank, count)[1] for rank in range(count)]
    assert sorted(name for part in parts for name in part.subjects) == list(NAMES)
    for part in parts:
        rows = [whole.subjects.index(name) for name in part.subjects]
        assert part.group == NAMES and len(part.sample_ids) == len(rows)
        for name in FIELDS:
            assert torch.equal(getattr(part, name), getattr(whole, name)[rows]), name


def test_checkpoints_of_another_enrolment_are_refused(tiny_world: TinyWorld) -> None:
    there = data(tiny_world).state_dict()
    with pytest.raises(LikenessError, match=r"`enrolment\.steps` differs \(3 there, 4 here\)"):
        data(tiny_world, steps=4).load_state_dict(there)
    pairs = SpotDiff10kDataModule(**{**tiny_world.data(), "features": {}})
    pairs.setup()
    with pytest.raises(LikenessError, match=r"`enrolment\.subjects` differs .* None here\)"):
        pairs.load_state_dict(there)


def test_an_enrolments_validation_generates_who_is_enrolled_first(tiny_world: TinyWorld) -> None:
    module = SpotDiff10kDataModule(
        **{**tiny_world.data(), "features": {}},
        enrolment=EnrolmentSettings(steps=1, at_once=2),
        validation=ValidationSettings(prompts=list(tiny_world.prompts[:1]), subjects=2),
    )
    module.setup()
    assert [request.subject for request in module.validation_requests()] == list(NAMES[:2])
    assert [subject.id for subject in module.validation_photos()] == list(NAMES[:2])


def test_a_caption_names_its_subject_by_the_placeholder(tiny_world: TinyWorld) -> None:
    photo = photos(tiny_world)[0]
    said = {
        "person, sad, on a beach": "<subject>, sad, on a beach",
        "a photo of a person": "a photo of a <subject>",
        "a personal photo of a person beside a person": "a personal photo of a <subject> beside a person",
    }
    for caption, expected in said.items():
        assert caption_with_placeholder(replace(photo, caption=caption)) == expected
    for caption in ("a photo of a hat", "a photo of a personality"):
        with pytest.raises(LikenessError, match="does not say 'person'"):
            caption_with_placeholder(replace(photo, caption=caption))


def test_prompts_are_taken_in_turn_the_photos_own_caption_among_them(tiny_world: TinyWorld) -> None:
    module = data(tiny_world, prompts=[None, "a photo of a <subject>"])
    assert module.enrolment is not None
    captions = tuple(caption_with_placeholder(photo) for photo in module.enrolment.every_photo)
    batches = [batch.prompts for batch in module.train_dataloader()]
    assert batches == [captions, ("a photo of a <subject>",) * len(NAMES), captions]
    assert data(tiny_world).batches[0].prompts == ("a photo of a <subject>",) * len(NAMES)


@pytest.mark.parametrize("prompts", [[], ["a photo"], [None, "<subject> beside <subject>"]])
def test_prompts_without_one_placeholder_are_refused(prompts: list[str | None]) -> None:
    with pytest.raises(LikenessError, match=r"data\.enrolment\.prompts"):
        EnrolmentSettings(prompts=prompts)


def test_without_a_test_split_subjects_must_be_named(tiny_world: TinyWorld, tmp_path: Path) -> None:
    (tmp_path / "train.parquet").symlink_to(tiny_world.dataset / "train.parquet")
    module = SpotDiff10kDataModule(
        **{**tiny_world.data(), "source": str(tmp_path)}, enrolment=EnrolmentSettings(steps=1)
    )
    with pytest.raises(LikenessError, match=r"test split .* is empty: name the subjects to enrol with data.subjects"):
        module.setup()

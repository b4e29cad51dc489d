from pathlib import Path

import pytest
import torch

from contracts.errors import LikenessError
from networks.adapter_file import save_adapter
from networks.subject_vectors import SubjectVectors, missing_subjects, read_subject_vectors, subjects_of

SHAPE = (5, 2, 3, 8)
NOUNS = {"s1": "person", "s2": "dog", "s3": "person"}


def some() -> SubjectVectors:
    """Two of three subjects are enrolled."""
    vectors = SubjectVectors(NOUNS, SHAPE)
    vectors.put(["s3", "s1"], torch.stack([torch.full(SHAPE, 3.0), torch.full(SHAPE, 1.0)]))
    return vectors


def save(path: Path, vectors: SubjectVectors, **metadata: str) -> Path:
    about = {"method": "SefiIDE", "backbone": "b" * 64, **vectors.metadata(), **metadata}
    save_adapter(path, torch.nn.ModuleDict({"subjects": vectors.parts()}), about)
    return path


def test_each_subject_has_its_own_and_only_who_is_enrolled_is_known() -> None:
    vectors = some()
    assert vectors.known == ["s1", "s3"]
    assert vectors["s1"].eq(1).all() and vectors["s3"].eq(3).all()
    with pytest.raises(LikenessError, match=r"not enrolled in this run: s2 \(it has 2: s1, s3\)"):
        vectors["s2"]


@pytest.mark.parametrize("name", ["half", "keys", "type", "training", "items", "pop"])
def test_a_subject_may_be_called_like_an_attribute_of_a_module(name: str, tmp_path: Path) -> None:
    vectors = SubjectVectors({name: "person"}, SHAPE)
    vectors.put([name], torch.ones(1, *SHAPE))
    again = read_subject_vectors(save(tmp_path / "a.safetensors", vectors), "SefiIDE", "b" * 64, SHAPE)
    assert again.known == [name] and torch.equal(again[name], torch.ones(SHAPE))


def test_a_file_gives_the_subjects_back(tmp_path: Path) -> None:
    file = save(tmp_path / "adapter.safetensors", some())
    again = read_subject_vectors(file, "SefiIDE", "b" * 64, SHAPE)
    assert again.nouns == {"s1": "person", "s3": "person"} and again.known == ["s1", "s3"]
    assert torch.equal(again["s3"], some()["s3"])
    assert file.stat().st_size < 2 * 4 * 240 + 1024, "a subject costs its numbers"


@pytest.mark.parametrize(
    ("arguments", "metadata", "words"),
    [
        (("SpotDiff", "b" * 64, SHAPE), {}, "was trained with method SefiIDE, not SpotDiff"),
        (("SefiIDE", "c" * 64, SHAPE), {}, "was trained for backbone bbbb"),
        (("SefiIDE", "b" * 64, (5, 1, 3, 8)), {}, r"the vectors of s1 are \(5, 2, 3, 8\), expected \(5, 1, 3, 8\)"),
        (("SefiIDE", "b" * 64, SHAPE), {"nouns": '{"s1": "person"}'}, "does not say whose vectors it holds"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, arguments: tuple, metadata: dict, words: str) -> None:
    file = save(tmp_path / "adapter.safetensors", some(), **metadata)
    with pytest.raises(LikenessError, match=words):
        read_subject_vectors(file, *arguments)


def test_a_checkpoint_carries_who_is_enrolled() -> None:
    again = SubjectVectors(NOUNS, SHAPE)
    again.load_state_dict(some().state_dict())
    assert again.known == ["s1", "s3"] and torch.equal(again["s1"], some()["s1"])
    with pytest.raises(ValueError, match="other subjects"):
        SubjectVectors({**NOUNS, "s2": "cat"}, SHAPE).load_state_dict(some().state_dict())


@pytest.mark.parametrize("name", ["a b", "../x", "s.1", "", "-s", "subject", "<s>"])
def test_a_name_that_cannot_stand_in_a_prompt_is_refused(name: str) -> None:
    with pytest.raises(LikenessError, match="subject id"):
        SubjectVectors({name: "person"}, SHAPE)


def test_the_line_about_missing_subjects_holds_the_command() -> None:
    line = missing_subjects(["s9"], ["s1", "s2", "s3", "s4"], "runs/sefi")
    assert "not enrolled in this run: s9 (it has 4: s1, s2, s3, ...)" in line
    named = """'["s1","s2","s3","s4","s9"]'"""
    assert line.endswith(f"--config runs/sefi/config.yaml --output NEW --data.subjects {named}")
    assert subjects_of({"method": "SpotDiff"}) is None

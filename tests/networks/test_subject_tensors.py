from pathlib import Path

import pytest
import torch

from contracts.errors import LikenessError
from networks.adapter_file import read_adapter, save_adapter
from networks.subject_tensors import VECTORS, SubjectTensors, missing_subjects, read_subject_tensors, subjects_of

SHAPE = (5, 2, 3, 8)
SHAPES = {VECTORS: SHAPE}
NOUNS = {"s1": "person", "s2": "dog", "s3": "person"}


def some() -> SubjectTensors:
    """Two of three subjects are enrolled."""
    subjects = SubjectTensors(NOUNS, SHAPES)
    subjects.store(["s3", "s1"], {VECTORS: torch.stack([torch.full(SHAPE, 3.0), torch.full(SHAPE, 1.0)])})
    return subjects


def save(path: Path, subjects: SubjectTensors, **metadata: str) -> Path:
    about = {"method": "SefiIDE", "backbone": "b" * 64, **subjects.metadata(), **metadata}
    save_adapter(path, torch.nn.ModuleDict({"subjects": subjects.parts()}), about)
    return path


def test_each_subject_has_its_own_and_only_who_is_enrolled_is_known() -> None:
    subjects = some()
    assert subjects.known == ["s1", "s3"]
    assert subjects["s1"][VECTORS].eq(1).all() and subjects["s3"][VECTORS].eq(3).all()
    with pytest.raises(LikenessError, match=r"not enrolled in this run: s2 \(it has 2: s1, s3\)"):
        subjects["s2"]


@pytest.mark.parametrize("name", ["half", "keys", "type", "training", "items", "pop"])
def test_a_subject_may_be_called_like_an_attribute_of_a_module(name: str, tmp_path: Path) -> None:
    subjects = SubjectTensors({name: "person"}, SHAPES)
    subjects.store([name], {VECTORS: torch.ones(1, *SHAPE)})
    again = read_subject_tensors(save(tmp_path / "a.safetensors", subjects), "SefiIDE", "b" * 64, SHAPES)
    assert again.known == [name] and torch.equal(again[name][VECTORS], torch.ones(SHAPE))


def test_a_file_gives_the_subjects_back(tmp_path: Path) -> None:
    file = save(tmp_path / "adapter.safetensors", some())
    again = read_subject_tensors(file, "SefiIDE", "b" * 64, SHAPES)
    assert again.nouns == {"s1": "person", "s3": "person"} and again.known == ["s1", "s3"]
    assert torch.equal(again["s3"][VECTORS], some()["s3"][VECTORS])
    assert file.stat().st_size < 2 * 4 * 240 + 1024, "a subject costs its numbers"


def test_a_subject_may_have_tensors_of_several_names(tmp_path: Path) -> None:
    shapes = {"down_blocks.0.to_q.down": (4, 8), "down_blocks.0.to_q.up": (16, 4)}
    subjects = SubjectTensors(NOUNS, shapes)
    subjects.store(["s2", "s1"], {name: torch.randn(2, *shape) for name, shape in shapes.items()})
    file = save(tmp_path / "adapter.safetensors", subjects)
    tensors, _ = read_adapter(file)
    assert set(tensors) == {f"subjects.{subject}.{name}" for subject in ("s1", "s2") for name in shapes}
    again = read_subject_tensors(file, "SefiIDE", "b" * 64, shapes)
    assert again.known == ["s1", "s2"]
    assert all(torch.equal(again[s][name], subjects[s][name]) for s in ("s1", "s2") for name in shapes)


@pytest.mark.parametrize(
    ("arguments", "metadata", "words"),
    [
        (("SpotDiff", "b" * 64, SHAPES), {}, "was trained with method SefiIDE, not SpotDiff"),
        (("SefiIDE", "c" * 64, SHAPES), {}, "was trained for backbone bbbb"),
        (
            ("SefiIDE", "b" * 64, {VECTORS: (5, 1, 3, 8)}),
            {},
            r"does not fit: vectors of s1: \(5, 2, 3, 8\), expected \(5, 1, 3, 8\)",
        ),
        (("SefiIDE", "b" * 64, {"down": (4, 8)}), {}, "does not fit: down of s1: missing, expected"),
        (("SefiIDE", "b" * 64, SHAPES), {"nouns": '{"s1": "person"}'}, "does not say whose tensors it holds"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, arguments: tuple, metadata: dict, words: str) -> None:
    file = save(tmp_path / "adapter.safetensors", some(), **metadata)
    with pytest.raises(LikenessError, match=words):
        read_subject_tensors(file, *arguments)


def test_a_checkpoint_carries_who_is_enrolled() -> None:
    again = SubjectTensors(NOUNS, SHAPES)
    again.load_state_dict(some().state_dict())
    assert again.known == ["s1", "s3"] and torch.equal(again["s1"][VECTORS], some()["s1"][VECTORS])
    with pytest.raises(ValueError, match="other subjects"):
        SubjectTensors({**NOUNS, "s2": "cat"}, SHAPES).load_state_dict(some().state_dict())


@pytest.mark.parametrize("name", ["a b", "../x", "s.1", "", "-s", "subject", "<s>"])
def test_a_name_that_cannot_stand_in_a_prompt_is_refused(name: str) -> None:
    with pytest.raises(LikenessError, match="subject id"):
        SubjectTensors({name: "person"}, SHAPES)


def test_the_line_about_missing_subjects_holds_the_command() -> None:
    line = missing_subjects(["s9"], ["s1", "s2", "s3", "s4"], "runs/sefi")
    assert "not enrolled in this run: s9 (it has 4: s1, s2, s3, ...)" in line
    named = """'["s1","s2","s3","s4","s9"]'"""
    assert line.endswith(f"--config runs/sefi/config.yaml --output NEW --data.subjects {named}")
    assert subjects_of({"method": "SpotDiff"}) is None

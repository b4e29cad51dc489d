from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from contracts.errors import LikenessError
from networks.adapter_file import adapter_identity, apply_adapter, read_adapter, save_adapter
from performance.faults.inject import file_size_limit, umask


def adapter(width: int = 4, seed: int = 0) -> nn.ModuleDict:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.ModuleDict({"head": nn.Linear(width, 3), "norm": nn.BatchNorm1d(3)})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "adapter.safetensors"
    save_adapter(path, adapter(), {"method": "Method", "backbone": "a" * 64})
    return path


def test_what_was_saved_comes_back(saved: Path) -> None:
    other = adapter(seed=1)
    apply_adapter(saved, other, "Method", "a" * 64)
    expected = adapter().state_dict()
    assert set(other.state_dict()) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())
    assert read_adapter(saved)[1] == {"format": "likeness-adapter-2", "method": "Method", "backbone": "a" * 64}
    assert [file.name for file in saved.parent.iterdir()] == ["adapter.safetensors"]


@pytest.mark.parametrize(
    ("method", "backbone", "width", "message"),
    [
        ("Other", "a" * 64, 4, "was trained with method Method, not Other"),
        ("Method", "b" * 64, 4, r"was trained for backbone aaaaaaaaaaaa, this one is bbbbbbbbbbbb.*--model.backbone"),
        ("Method", "a" * 64, 5, r"head.weight is \(3, 4\), expected \(3, 5\)"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    saved: Path, method: str, backbone: str, width: int, message: str
) -> None:
    target = adapter(width, seed=1)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(LikenessError, match=message) as raised:
        apply_adapter(saved, target, method, backbone)
    assert str(saved) in str(raised.value) and "\n" not in str(raised.value)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def rewritten(path: Path, order: int, **changes: str | None) -> Path:
    """A file with the same tensors, its header in another order, and some of the metadata changed."""
    with safe_open(path, "pt") as file:
        told = {**file.metadata(), **changes}
    tensors = dict(sorted(load_file(path).items(), reverse=bool(order % 2)))
    told = dict(sorted(told.items(), key=lambda pair: hash((order, pair))))
    copy = path.with_name(f"copy{order}.safetensors")
    save_file(tensors, copy, metadata={key: value for key, value in told.items() if value is not None})
    return copy


def test_the_identity_is_of_what_a_file_holds_and_not_of_its_bytes(saved: Path) -> None:
    identity = adapter_identity(*read_adapter(saved))
    copies = [rewritten(saved, order) for order in range(6)]
    assert {adapter_identity(*read_adapter(copy)) for copy in copies} == {identity}
    tensors, told = read_adapter(saved)
    others = [
        (tensors, {**told, "method": "Methods"}),
        (tensors, {**told, "more": ""}),
        ({name: value + (name == "head.bias") for name, value in tensors.items()}, told),
        ({name.replace("head", "tail"): value for name, value in tensors.items()}, told),
        ({name: value.half() for name, value in tensors.items()}, told),
        ({name: value.reshape(1, *value.shape) for name, value in tensors.items()}, told),
    ]
    assert len({identity, *(adapter_identity(*other) for other in others)}) == len(others) + 1


@pytest.mark.parametrize("size", [1, 64])
def test_a_damaged_adapter_is_never_used(saved: Path, size: int) -> None:
    whole = saved.read_bytes()
    for at in range(0, len(whole), 3):
        saved.write_bytes(whole[:at] + bytes(byte ^ 0x04 for byte in whole[at : at + size]) + whole[at + size :])
        with pytest.raises(LikenessError) as raised:
            read_adapter(saved)
        assert "\n" not in str(raised.value)


def test_adapters_of_older_versions_have_no_digest_and_are_read(saved: Path) -> None:
    older = rewritten(saved, 7, format="likeness-adapter-1", sha256=None)
    assert all(torch.equal(value, read_adapter(saved)[0][name]) for name, value in read_adapter(older)[0].items())
    with pytest.raises(LikenessError, match="is damaged"):
        read_adapter(rewritten(saved, 8, sha256=None))


def test_entries_too_many_or_too_few_are_named(saved: Path) -> None:
    with pytest.raises(LikenessError, match=r"norm.*is missing, expected \(|is \(.*expected nothing"):
        apply_adapter(saved, nn.ModuleDict({"head": nn.Linear(4, 3)}), "Method", "a" * 64)
    more = adapter().add_module("tail", nn.Linear(1, 1)) or nn.ModuleDict({**adapter(), "tail": nn.Linear(1, 1)})
    with pytest.raises(LikenessError, match=r"tail.bias is missing, expected \(1,\) \(2 such entries\)"):
        apply_adapter(saved, more, "Method", "a" * 64)


def test_a_missing_file_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=r"no adapter at .*nowhere.*train one with train.py"):
        read_adapter(tmp_path / "nowhere" / "adapter.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_a_file_that_was_cut_short_is_one_line(saved: Path, keep: int) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[:keep] if keep >= 0 else data[:-1])
    with pytest.raises(LikenessError, match="is not a readable adapter") as raised:
        read_adapter(saved)
    assert "\n" not in str(raised.value)


def test_a_folder_in_its_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match="is not a readable adapter"):
        read_adapter(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "likeness-adapter-1"}])
def test_other_safetensors_files_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(LikenessError, match="not an adapter of this framework"):
        apply_adapter(path, adapter(), "Method", "a" * 64)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_umask_decides_who_reads_the_file(tmp_path: Path, mask: int, mode: int) -> None:
    with umask(mask):
        save_adapter(tmp_path / "a.safetensors", adapter(), {"method": "Method", "backbone": "a" * 64})
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == mode


def test_a_failed_write_leaves_the_old_file_alone(saved: Path) -> None:
    before = saved.read_bytes()
    with file_size_limit(1000), pytest.raises(LikenessError, match=r"adapter.safetensors' could not be written"):
        save_adapter(saved, nn.ModuleDict({"big": nn.Linear(100, 100)}), {"method": "Method", "backbone": "a" * 64})
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["adapter.safetensors"]

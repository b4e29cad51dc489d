"""A cache entry is right or missing, whatever happened to the files."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from contracts.errors import LikenessError
from datamodules.features.cache import FeatureCache, _checksum, content_key

KEYS = [content_key(str(i)) for i in range(6)]


def _values(count: int, offset: float = 0.0) -> Tensor:
    return torch.arange(count * 6, dtype=torch.float32).reshape(count, 2, 3) + offset


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    cache = FeatureCache(tmp_path, "clip", "weights-1")
    cache.append(KEYS[:4], _values(4))
    return cache


def test_rows_come_back_in_the_order_asked_for(cache: FeatureCache, tmp_path: Path) -> None:
    cache.append(KEYS[4:], _values(2, 100))
    for found in (cache, FeatureCache(tmp_path, "clip", "weights-1")):
        assert torch.equal(found.rows([KEYS[5], KEYS[0]]), torch.stack([_values(2, 100)[1], _values(4)[0]]))
        assert found.shape == (2, 3)
        assert KEYS[3] in found


def test_another_content_encoder_or_feature_finds_nothing(cache: FeatureCache, tmp_path: Path) -> None:
    assert cache.missing([*KEYS[2:], KEYS[4]]) == sorted(KEYS[4:])
    assert FeatureCache(tmp_path, "clip", "weights-2").missing(KEYS) == sorted(KEYS)
    assert FeatureCache(tmp_path, "moments", "weights-1").missing(KEYS) == sorted(KEYS)


def test_adding_leaves_what_is_there(cache: FeatureCache) -> None:
    (first,) = cache.folder.iterdir()
    before = first.read_bytes()
    cache.append(KEYS[4:], _values(2))
    assert first.read_bytes() == before
    assert len(list(cache.folder.iterdir())) == 2


def test_other_processes_see_additions_after_refresh(cache: FeatureCache, tmp_path: Path) -> None:
    other = FeatureCache(tmp_path, "clip", "weights-1")
    cache.append(KEYS[4:], _values(2))
    assert KEYS[4] not in other
    other.refresh()
    assert KEYS[4] in other


def test_a_flipped_bit_anywhere_is_never_used(cache: FeatureCache, tmp_path: Path) -> None:
    (shard,) = cache.folder.iterdir()
    whole = shard.read_bytes()
    for at in range(0, len(whole), 7):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        found = FeatureCache(tmp_path, "clip", "weights-1")
        if KEYS[0] in found:  # a bit of the header that says nothing
            assert torch.equal(found.rows(KEYS[:4]), _values(4))
        else:
            assert found.missing(KEYS[:4]) == sorted(KEYS[:4])


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_shard_cut_short_counts_as_missing_and_is_written_again(
    cache: FeatureCache, tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    (shard,) = cache.folder.iterdir()
    shard.write_bytes(shard.read_bytes()[:kept])
    found = FeatureCache(tmp_path, "clip", "weights-1")
    assert found.missing(KEYS[:4]) == sorted(KEYS[:4])
    assert shard.name in caplog.text
    found.discard_damaged()
    found.append(KEYS[:4], _values(4))
    again = FeatureCache(tmp_path, "clip", "weights-1")
    assert torch.equal(again.rows(KEYS[:4]), _values(4))
    assert len(list(again.folder.iterdir())) == 1


def forged(cache: FeatureCache, keys: object, values: Tensor, encoder: str | None) -> Path:
    """A shard with a right checksum that ``cache`` did not write."""
    names = json.dumps(keys)
    told = {"keys": names, "crc32": str(_checksum((encoder or "") + names, values))}
    path = cache.folder / "0.safetensors"
    save_file({"values": values}, path, told if encoder is None else {**told, "encoder": encoder})
    return path


WRONG = {
    "not finite": (KEYS[4:], _values(2) / torch.tensor([0.0, 1, 1])),
    "half precision": (KEYS[4:], _values(2).half()),
    "whole numbers": (KEYS[4:], _values(2).int()),
    "no entries": (KEYS[4:], _values(2)[:, 0, 0].contiguous()),
    "more keys": (KEYS[3:], _values(2)),
    "a key twice": ([KEYS[4], KEYS[4]], _values(2)),
    "keys of another kind": ([4, 5], _values(2)),
    "keys that are none": ({KEYS[4]: 1, KEYS[5]: 2}, _values(2)),
    "no keys": (7, _values(2)),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("encoder", [None, "ours"])
def test_a_right_checksum_does_not_make_wrong_values_right(
    cache: FeatureCache, tmp_path: Path, wrong: str, encoder: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = forged(cache, *WRONG[wrong], encoder and cache.folder.name.removeprefix("clip-"))
    found = FeatureCache(tmp_path, "clip", "weights-1")
    assert found.missing(KEYS) == sorted(KEYS[4:])
    assert path.name in caplog.text
    found.discard_damaged()
    assert not path.exists()


def test_values_of_another_encoder_are_not_taken(cache: FeatureCache, tmp_path: Path) -> None:
    other = FeatureCache(tmp_path, "clip", "weights-2")
    other.append(KEYS[4:], _values(2))
    for shard in other.folder.iterdir():
        shutil.copy(shard, cache.folder)
    assert FeatureCache(tmp_path, "clip", "weights-1").missing(KEYS) == sorted(KEYS[4:])


def test_a_shard_of_an_older_version_is_taken(cache: FeatureCache, tmp_path: Path) -> None:
    forged(cache, KEYS[4:], _values(2, 50), None)
    assert torch.equal(FeatureCache(tmp_path, "clip", "weights-1").rows(KEYS[4:]), _values(2, 50))


def test_where_shapes_differ_all_is_encoded_again(cache: FeatureCache, tmp_path: Path) -> None:
    forged(cache, KEYS[4:], torch.ones(2, 7), cache.folder.name.removeprefix("clip-"))
    found = FeatureCache(tmp_path, "clip", "weights-1")
    assert found.missing(KEYS) == sorted(KEYS)
    found.discard_damaged()
    found.append(KEYS, _values(6))
    assert torch.equal(FeatureCache(tmp_path, "clip", "weights-1").rows(KEYS), _values(6))


@pytest.mark.parametrize("kind", ["folder", "fifo", "dangling link", "link"])
def test_what_is_no_shard_is_set_aside(cache: FeatureCache, tmp_path: Path, kind: str) -> None:
    (shard,) = cache.folder.iterdir()
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    shard.unlink()
    {
        "folder": shard.mkdir,
        "fifo": lambda: os.mkfifo(shard),
        "dangling link": lambda: shard.symlink_to("nowhere"),
        "link": lambda: shard.symlink_to(theirs),
    }[kind]()
    found = FeatureCache(tmp_path, "clip", "weights-1")
    assert found.missing(KEYS[:4]) == sorted(KEYS[:4])
    if kind == "folder":
        with pytest.raises(LikenessError, match=f"{shard.name}' is a folder where a file should be: remove it"):
            found.discard_damaged()
        return
    found.discard_damaged()
    found.append(KEYS[:4], _values(4))
    assert torch.equal(FeatureCache(tmp_path, "clip", "weights-1").rows(KEYS[:4]), _values(4))
    assert theirs.read_text() == "theirs"


def test_an_unfinished_write_is_not_seen(cache: FeatureCache, tmp_path: Path) -> None:
    (shard,) = cache.folder.iterdir()
    (cache.folder / f".{shard.name}.abc").write_bytes(shard.read_bytes())
    shard.unlink()
    assert FeatureCache(tmp_path, "clip", "weights-1").missing(KEYS) == sorted(KEYS)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = _values(2)
    values[1, 0, 0] = torch.nan
    cache = FeatureCache(tmp_path, "moments", "weights-1")
    with pytest.raises(LikenessError, match=f"moments features of {KEYS[1][:16]}.* not finite"):
        cache.append(KEYS[:2], values)
    assert not cache.folder.exists()

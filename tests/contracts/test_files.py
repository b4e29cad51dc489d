import os
import stat
from pathlib import Path

import pytest

from contracts.files import atomic_path, file_sha256, write_atomically, write_json


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.yaml"
    write_atomically(path, b"a: 1\n")
    write_atomically(path, iter([b"a: ", b"2\n"]))
    assert path.read_text() == "a: 2\n"
    assert [file.name for file in path.parent.iterdir()] == ["config.yaml"]


def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_atomically(path, b"before")

    def broken() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"score": float("nan")})
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("theirs")
    link = tmp_path / "config.yaml"
    link.symlink_to(tmp_path / "elsewhere")
    write_atomically(link, b"ours")
    assert not link.is_symlink()
    assert link.read_text() == "ours"
    assert (tmp_path / "elsewhere").read_text() == "theirs"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "entry.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "entry.json").stat().st_mode) == mode


def test_the_hash_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

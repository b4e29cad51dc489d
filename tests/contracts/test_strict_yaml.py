"""Files of YAML that nobody would write by hand end quickly, with one line, and take no memory."""

import os
import time
import tracemalloc
from pathlib import Path

import pytest

from contracts.errors import LikenessError
from contracts.strict_yaml import read_yaml


def laughs(levels: int, width: int, text: str) -> str:
    """Aliases of aliases: ``width`` to the power of ``levels`` texts."""
    lines = [f"a0: &a0 {text}"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels + 1)]
    return "\n".join(lines) + "\n"


HOSTILE = {
    "alias bomb": laughs(9, 9, "lol"),
    "wide aliases": laughs(2, 400, "x"),
    "alias of a mapping": "a: &a {b: [1, 2, 3]}\n" + laughs(3, 60, "*a")[4:].replace("a0: &a0 *a", "a0: &a0 [1]"),
    "alias in itself": "a: &a [1, *a]\n",
    "alias of nothing": "a: *b\n",
    "merged bomb": "a: &a {x: 1}\n" + "\n".join(f"m{i}: &m{i} {{a: *a, b: *a, <<: *a}}" for i in range(3)) + "\n- 1\n",
    "deep list": "[" * 100_000,
    "deep and closed": "[" * 100_000 + "]" * 100_000,
    "deep mapping": "{a: " * 5_000 + "1" + "}" * 5_000,
    "deep by indentation": "\n".join(" " * i + "a:" for i in range(900)),
    "too large": "a: " + "x" * 2_000_000,
    "a key twice": "a: 1\nb: 2\na: 3\n",
    "a key twice within": "a: {b: 1, b: 2}\n",
    "code": "a: !!python/object/apply:os.system ['touch ran']\n",
    "a date that does not exist": "a: 2026-02-30\n",
    "a tab": "a:\n\t- b\n",
    "many values": "- 1\n" * 110_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_nobody_writes_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(HOSTILE[kind])
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(LikenessError, match=r"config.yaml'") as raised:
            read_yaml(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 5
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500
    assert not Path("ran").exists()


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "missing", "not UTF-8", "binary"])
def test_what_is_no_text_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "not UTF-8":
        path.write_bytes("a: ü".encode("latin-1"))
    elif kind == "binary":
        path.write_bytes(bytes(range(256)))
    with pytest.raises((LikenessError, OSError), match=r"config.yaml"):
        read_yaml(path)


def test_what_people_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "base: &base {steps: 3, rate: 1.0e-3}\nfirst: {<<: *base, steps: 4}\nsecond: *base\n"
        "names: [a, a, ü]\nnone: null\n"
    )
    base = {"steps": 3, "rate": 1e-3}
    names = {"names": ["a", "a", "ü"], "none": None}
    assert read_yaml(path) == {"base": base, "first": {"steps": 4, "rate": 1e-3}, "second": base, **names}
    path.write_text("")
    assert read_yaml(path) is None

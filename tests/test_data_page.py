"""The examples of the page about data are run: what they write is a dataset."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.index import load_photos
from datamodules.schema import COLUMNS
from datamodules.sources import find_shards
from tests.helpers.images import encoded
from tests.helpers.markdown import read_page

PAGE = Path(__file__).parents[1] / "docs" / "data.md"


def test_the_examples_write_and_read_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for subject in ("s0001", "s0002"):
        (tmp_path / "photos" / subject).mkdir(parents=True)
        for i in range(3):
            pixels = np.full((32, 48, 3), 40 * i + int(subject[-1]), np.uint8)
            (tmp_path / "photos" / subject / f"{i}.jpg").write_bytes(encoded(pixels, "JPEG"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in read_page(PAGE).blocks:
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
    assert "s0001 s0001/0.jpg 2\ns0002 s0002/0.jpg 2" in capsys.readouterr().out
    plain, mine = (load_photos(find_shards(f"data/{name}"), tmp_path / "cache") for name in ("plain", "mine"))
    assert [p.photo_id for p in plain] == [p.photo_id for p in mine] and len(mine) == 6


def test_the_page_has_every_column_with_its_type_and_whether_it_is_required() -> None:
    rows = [line.split("|")[1:4] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    said = {name.strip(" `"): (kind.strip(), needed.strip()) for name, kind, needed in rows[: len(COLUMNS)]}
    for field in COLUMNS:
        kind = str(field.type)
        if kind.startswith("struct"):
            kind = "struct of bytes, path"
        elif kind.startswith("fixed_size_list"):
            kind = {3: "3 x float32", 4: "4 x float32", 5: "5 x 2 x float32"}[field.type.list_size]
        assert said[field.name] == (kind, "" if field.nullable else "yes"), field.name

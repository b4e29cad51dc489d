"""What the bytes of a photo show."""

import base64
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.errors import LikenessError
from curation.files import FileBytes
from curation.looks import Look, Looker
from curation.metadata import Facts
from curation.pictures import read_picture
from curation.sources import Source
from tests.helpers.photos import encoded

HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAaFtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ADRpbG9jAAAAAERAAAIAAQAAAAABxQABAAAAAAAAAeAAAgAAAAADpQABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA4GlwcnAAAADAaXBjbwAAAHhodmNDAQNwAAAA"
    "kAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDyBRZbq"
    "SSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAAB4AAAAUAAAABBw"
    "aXhpAAAAAAMICAgAAAAJaXJvdAMAAAAYaXBtYQAAAAAAAAABAAEFgQIDBIUAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAgxt"
    "ZGF0AAAB3CgBrwY4W4ocgemBfRqtK7NSFAgg8nw/lRUqf1/aIUb8Kv8sf/1wYT7TBbyYvuQx0oy6LjLrj4XyOCzB30Sv10vel6ik"
    "rZ32YgE3g9iYQ0Db0lS0eXQFLNZ8dwy/WkxuvxKqZTLvxQ4c3j0KFnt9eXP+9V/F+/vnk5g6W3I/I2YOxC9z4nGECzkJ0AzPrHWU"
    "v6L+gVOqzUGw/9Irk1xfjS/CGxfITPc6nLJ1G6rOEJ8j3KBasLkSAryVoSZO91A2yZDxgOP/COLLkGe6/DPo2f/QNIKR8WyVSrGE"
    "M2Gx+QUUnJb/rKhNXm4boZ3MGgZG6ps89Yh14a5n0T6eqNNcfDszfvSv7asAsouWr0yKIXqbeT5SU+/Dd8hKPjkkmetogswUrh1D"
    "CFBm2VafPuPFb4m0H0N847FJ+BbxUFm1gM/zMkVrHhExPPb6ULMKE522x5rWYLk8yRc1EJgN4Nth6kz5cDqWKZOIctp+eMLgR/e/"
    "tDaY3QQBVhm8MsYHwzWISeWs+t46odd/vZb0m5r2RzdCV89fg+PSZ9xu5Ru8HHV+xeo0LdxlxCiNYM4VRoCC5jC3BxgIPNXi+IrG"
    "Z05/f7fGAMrzinMWbr1pTaphjcWgfl5VMACSb6jm0BTLAAAABkV4aWYAAE1NACoAAAAIAAEBEgADAAAAAQAGAAAAAAAA"
)
"""80 x 120 pixels that grow lighter downward, stored on their side."""


def test_alpha_is_kept_beside_what_is_seen() -> None:
    pixels = np.zeros((6, 8, 4), np.uint8)
    pixels[:, 4:] = (200, 10, 10, 255)
    picture = read_picture(encoded(pixels), "cut-out")
    assert picture.size == (8, 6) and picture.alpha is not None
    assert (picture.pixels[:, :4] == 255).all() and picture.alpha[0].tolist() == [0] * 4 + [255] * 4
    assert read_picture(encoded(pixels[..., :3]), "plain").alpha is None
    with pytest.raises(LikenessError, match="empty is transparent throughout"):
        read_picture(encoded(np.zeros((6, 8, 4), np.uint8)), "empty")


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is not None, reason="pillow-heif is installed")
def test_heic_without_its_library_says_what_to_install() -> None:
    with pytest.raises(LikenessError, match="me is HEIC: install pillow-heif"):
        read_picture(HEIC, "me")


def test_heic_is_read_upright() -> None:
    pytest.importorskip("pillow_heif")
    picture = read_picture(HEIC, "me")
    assert picture.size == (80, 120) and picture.orientation == 1
    assert picture.pixels[0].max() < 10 and picture.pixels[-1].min() > 245
    with pytest.raises(LikenessError, match="no readable HEIC image") as caught:
        read_picture(HEIC[: len(HEIC) // 2], "half")
    assert "\n" not in str(caught.value)


def look_at(path: Path, data: bytes) -> Look:
    path.write_bytes(data)
    facts = Facts(subject_id="a", subject_class="thing", has_face=False)
    (record,) = Looker(None).looks([Source(path.name, facts, FileBytes(path))])
    return Look.of(record)


def test_a_look_survives_its_record_and_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    look = look_at(tmp_path / "a.png", encoded(noise))
    assert (look.problem, look.size, look.boxes.shape) == ("", (120, 90), (0, 4))
    assert look.blurs.shape == (1,) and look.signatures.shape == (1, 32, 32)
    huge = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(huge, "PNG")
    assert "more than 67,108,864 pixels" in look_at(tmp_path / "b.png", huge.getvalue()).problem
    assert look_at(tmp_path / "c.jpg", b"text").problem == "is no readable PNG, JPEG or WebP image"
    assert look_at(tmp_path / "d.jpg", b"").problem == "is no readable PNG, JPEG or WebP image"


def test_a_large_photo_has_its_own_size_however_it_was_looked_at(tmp_path: Path) -> None:
    large = Image.linear_gradient("L").resize((3000, 2000)).convert("RGB")
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=80)
    look = look_at(tmp_path / "a.jpg", buffer.getvalue())
    assert look.size == (3000, 2000) and look.square(None).side == 2000

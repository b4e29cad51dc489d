"""What a base model in the shape of SDXL reads besides text states comes with them: pooled text and sizes."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from torch.nn import Module

from datamodules.features.base import EncoderContext
from datamodules.features.cache import content_key
from datamodules.features.crops import EXTENT
from datamodules.features.registry import make_features
from datamodules.features.store import Features
from datamodules.image_io import read_square, square_corner
from datamodules.processes import Processes
from datamodules.schema import features as schema
from datamodules.spotdiff10k import SpotDiff10kDataModule
from networks.backbone import Backbone, load_backbone
from pocket.render.dataset import rows_of
from pocket.tiny.components import SIDE
from pocket.tiny.world import GRID, TinyWorld

Row = dict[str, object]


def padded(row: Row, *, top: int, left: int) -> Row:
    """The row's photo with so many white pixels more above and below, or beside it; nothing else of it is known."""
    data = row["image"]
    image = np.asarray(Image.open(io.BytesIO(data["bytes"] if isinstance(data, dict) else data)))  # type: ignore[arg-type]
    stream = io.BytesIO()
    border = ((top, top), (left, left), (0, 0))
    Image.fromarray(np.pad(image, border, constant_values=255)).save(stream, "PNG")
    unknown = dict.fromkeys(("mask", "landmarks", "bbox", "pose"))
    return {**row, **unknown, "image": {"bytes": stream.getvalue(), "path": None}, "sha256": None}


@contextmanager
def runs_of_encoders(backbone: Backbone) -> Iterator[list[int]]:
    """How often each of its text encoders runs."""
    runs = [0] * len(backbone.text.encoders)

    def counted(number: int) -> Callable[[Module, tuple], None]:
        def count(module: Module, inputs: tuple) -> None:
            runs[number] += 1

        return count

    with ExitStack() as stack:
        for number, encoder in enumerate(backbone.text.encoders):
            stack.callback(encoder.register_forward_pre_hook(counted(number)).remove)
        yield runs


@pytest.fixture
def world(tiny_world: TinyWorld, sdxl_folder: Path, tmp_path: Path) -> TinyWorld:
    return replace(tiny_world, base=sdxl_folder, cache=tmp_path / "cache")


def test_the_corner_is_where_the_square_begins() -> None:
    assert square_corner(80, 64, 64) == (8, 0)
    assert square_corner(100, 300, 50) == (0, 50)
    pixels = np.zeros((200, 100, 3), np.uint8)
    pixels[:100] = 255  # half of the square
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    rows = read_square(stream.getvalue(), "x", 50)[:, 25, 0]
    assert square_corner(200, 100, 50) == (25, 0), "in pixels of the photo at the image's size"
    assert rows[:24].min() > 250 and rows[26:].max() < 5, "of 100 rows the square begins at row 25, white ends at 50"


def test_sizes_are_those_of_the_upright_photo() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    stream = io.BytesIO()
    Image.new("RGB", (60, 40)).save(stream, "JPEG", exif=exif)
    assert EXTENT.of_file(stream.getvalue(), "x", 32) == (60, 40)
    feature = make_features(["sizes"], {}, EncoderContext("nowhere", 32))["sizes"]
    assert feature.encode([(60, 40), (32, 32)]).tolist() == [[60, 40, 8, 0, 32, 32], [32, 32, 0, 0, 32, 32]]


def test_texts_come_with_pooled_text_and_whole_images(world: TinyWorld, sdxl: Backbone) -> None:
    context = EncoderContext(str(world.base), SIDE)
    features = Features(["text"], {}, context, world.cache, Processes())
    texts = ["a photo of a person", ""]
    features.fill_texts(texts)
    found, expected = features.of_texts(texts), sdxl.encode_text(texts)
    for name in ("states", "pooled", "sizes"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)
    assert set(features.fingerprints()) == {"text", "pooled_text"}


def test_every_text_is_read_once_for_states_and_pooled_text(world: TinyWorld, sdxl: Backbone) -> None:
    context = EncoderContext(str(world.base), SIDE)
    features = Features(["text"], {}, context, world.cache, Processes())
    texts = [f"a photo of {number} hats" for number in range(20)]
    context.lend(load_backbone, str(world.base), sdxl)
    with runs_of_encoders(sdxl) as runs:
        features.fill_texts(texts)
    assert runs == [3, 3], "20 texts are three batches of 8 for each of two encoders"
    states = features["text"].rows([content_key(text) for text in texts])
    for text in texts[::7]:
        alone = Features(["text"], {}, context, world.cache / text, Processes())
        alone.fill_texts([text])
        for name in ("states", "pooled"):
            assert torch.equal(getattr(alone.of_texts([text]), name), getattr(features.of_texts([text]), name))

    shutil.rmtree(features["pooled_text"].folder)
    again = Features(["text"], {}, context, world.cache, Processes())
    with runs_of_encoders(sdxl) as runs:
        again.fill_texts([*texts, "a photo of a dog"])
    assert runs == [4, 4], "what both lack, and what the pooled text lacks"
    assert torch.equal(again["text"].rows([content_key(text) for text in texts]), states)


def test_nothing_comes_beside_the_texts_of_other_base_models(tiny_world: TinyWorld, tmp_path: Path) -> None:
    features = Features(["text", "moments"], {}, EncoderContext(str(tiny_world.base), SIDE), tmp_path, Processes())
    features.fill_texts(["a person"])
    found = features.of_texts(["a person"])
    assert found.pooled is None and found.sizes is None and features.sizes([]) is None
    parts = features.context.parts_fingerprint("text_encoder", "tokenizer")
    assert features.fingerprints() == {"text": f"{parts}/text"}, "caches from before there was SDXL are found"


@pytest.mark.parametrize("enrolled", [False, True])
def test_training_batches_have_the_sizes_of_their_photos(world: TinyWorld, tmp_path: Path, enrolled: bool) -> None:
    """Photos of three shapes; the batches say where in each of them the square lay."""
    shapes: list[Callable[[Row], Row]] = [
        lambda row: row, lambda row: padded(row, top=16, left=0), lambda row: padded(row, top=0, left=32)
    ]  # fmt: skip
    rows = [shapes[i % 3](row) for i, row in enumerate(rows_of(0, GRID) + rows_of(1, GRID))]
    (tmp_path / "dataset").mkdir()
    Dataset.from_list(rows, features=schema()).to_parquet(tmp_path / "dataset" / "train.parquet")
    more: dict = {"enrolment": {"steps": 2}, "subjects": ["s0000", "s0001"]} if enrolled else {}
    data = SpotDiff10kDataModule(**{**world.data(), "source": str(tmp_path / "dataset"), **settings(more)})
    data.setup()
    expected = {(96, 64): (16, 0), (64, 128): (0, 32), (64, 64): (0, 0)}
    seen = set()
    for k in range(6 if not enrolled else 2):
        batch = data.batches[k]
        sizes = batch.sizes if enrolled else batch.text_states.sizes  # type: ignore[union-attr]
        for height, width, top, left, *target in sizes.int().tolist():
            assert (top, left) == expected[height, width] and target == [SIDE, SIDE]
            seen.add((height, width))
    assert enrolled or seen == set(expected)


def settings(more: dict) -> dict:
    from datamodules.batches.subjects import EnrolmentSettings

    return {**more, "enrolment": EnrolmentSettings(**more["enrolment"])} if more else {}

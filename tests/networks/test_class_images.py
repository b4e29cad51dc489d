"""Class images: made once, by any number of processes, made again where a file is damaged."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from contracts.errors import LikenessError
from networks.class_images import IN_A_FILE, ClassImages
from networks.sampler import SamplingSettings

TEXTS = ["a photo of a dog", "a photo of a person"]
FEW = SamplingSettings("ddim", steps=2, guidance=3.0)


class Drawn:
    """Stands for the base model: notes what it is asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str, noise: Tensor) -> Tensor:
        self.texts.append(text)
        return noise + len(text)


def images(folder: Path, count: int = 6, precision: str = "32-true") -> ClassImages:
    return ClassImages(folder, "b" * 64, (4, 3, 3), count, FEW, precision)


def test_they_are_generated_once_for_all_who_ask(tmp_path: Path) -> None:
    drawn = Drawn()
    images(tmp_path).generate(TEXTS, drawn, 0, 1, quiet=True)
    assert sorted(drawn.texts) == sorted(2 * TEXTS)
    found = images(tmp_path).load(TEXTS[0])
    assert found.shape == (6, 4, 3, 3) and len({float(one.sum()) for one in found}) == 6
    again = Drawn()
    images(tmp_path, count=2 * IN_A_FILE).generate(TEXTS, again, 0, 1, quiet=True)
    assert not again.texts, "files hold whole batches"
    assert torch.equal(images(tmp_path, count=7).load(TEXTS[0])[:6], found)
    images(tmp_path, precision="bf16-mixed").generate(TEXTS[:1], again, 0, 1, quiet=True)
    assert again.texts == 2 * TEXTS[:1], "another precision has images of its own"


def test_processes_share_the_work_and_make_the_same_images(tmp_path: Path) -> None:
    images(tmp_path / "one").generate(TEXTS, Drawn(), 0, 1, quiet=True)
    shares = [Drawn() for _ in range(3)]
    for rank, share in enumerate(shares):
        images(tmp_path / "three").generate(TEXTS, share, rank, 3, quiet=True)
    assert sorted(len(share.texts) for share in shares) == [1, 1, 2]
    for text in TEXTS:
        assert torch.equal(images(tmp_path / "one").load(text), images(tmp_path / "three").load(text))


def test_what_is_damaged_is_made_again_and_nothing_else(tmp_path: Path) -> None:
    images(tmp_path).generate(TEXTS, Drawn(), 0, 1, quiet=True)
    before = images(tmp_path).load(TEXTS[0])
    file = sorted(tmp_path.rglob("*.safetensors"))[0]
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(LikenessError, match="no class images at "):
        [images(tmp_path).load(text) for text in TEXTS]
    drawn = Drawn()
    images(tmp_path).generate(TEXTS, drawn, 0, 1, quiet=True)
    assert len(drawn.texts) == 1
    assert torch.equal(images(tmp_path).load(TEXTS[0]), before)

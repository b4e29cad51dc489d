"""Views of faces with unreadable parts, and the training of their reader."""

from pathlib import Path

import numpy as np
import pytest
import torch

from networks.face_parts import PARTS, SIDE
from pocket.models.bank import Bank, collect, load_bank
from pocket.models.face_parts import train_parts_reader
from pocket.models.faces import PARTS_FILE, export_parts_reader
from pocket.models.spoilt_faces import PartViews
from pocket.render.factors import draw_shot


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return load_bank(tmp_path_factory.mktemp("bank"), subjects=20, shots=10)


def test_views_are_keyed_and_of_every_kind(bank: Bank) -> None:
    views = PartViews(bank)
    some = [views.draw(np.random.default_rng((1, i))) for i in range(300)]
    again = [views.draw(np.random.default_rng((1, i))) for i in range(20)]
    assert all((a[0] == b[0]).all() for a, b in zip(some, again, strict=False))
    truth = np.stack([readable for _, readable in some])
    assert all(crop.shape == (SIDE, SIDE, 3) and crop.dtype == np.uint8 for crop, _ in some)
    shares = {
        "whole": (truth == 1).all(1).mean(),
        "nothing": (truth == 0).all(1).mean(),
        "half": np.isnan(truth).any(1).mean(),
    }
    assert 0.2 < shares["whole"] < 0.6 and 0.1 < shares["nothing"] < 0.5 and 0.02 < shares["half"] < 0.2, shares
    assert all(0.3 < np.nanmean(truth[:, part]) < 0.9 for part in range(len(PARTS)))


def test_dark_glasses_are_known_from_the_shots(bank: Bank) -> None:
    views = PartViews(bank)
    assert views.dark.tolist() == [
        draw_shot(f"bank/{i}/0/{j}").glasses == "sunglasses" for i in range(20) for j in range(10)
    ]
    assert 0 < views.dark.mean() < 0.5
    hidden = PartViews(collect_one(bank, int(np.flatnonzero(views.dark)[0])))
    hidden.dark[:] = True
    truth = np.stack([hidden.draw(np.random.default_rng(i))[1] for i in range(60)])
    assert not truth[:, :2].any(), "no eye is seen through them"


def collect_one(bank: Bank, row: int) -> Bank:
    return collect(
        [
            {
                "image": bank.images[row],
                "landmarks": bank.landmarks[row],
                "box": bank.boxes[row],
                "pose": bank.pose[row],
                "subject": 0,
                "background": 0,
                "style": 0,
                "caption": "",
            }
        ]
    )


def test_a_short_training_goes_on_after_a_stop_and_is_exported(bank: Bank, tmp_path: Path) -> None:
    whole = train_parts_reader(bank, tmp_path / "whole", steps=6, batch=8)
    train_parts_reader(bank, tmp_path / "cut", steps=6, batch=8, until=3)
    resumed = train_parts_reader(bank, tmp_path / "cut", steps=6, batch=8)
    crops = torch.zeros(3, 3, SIDE, SIDE)
    assert torch.equal(whole(crops), resumed(crops))
    assert whole(crops).shape == (3, len(PARTS)) and ((whole(crops) > 0) & (whole(crops) < 1)).all()
    export_parts_reader(whole, tmp_path / PARTS_FILE)
    from networks.face_files import find_parts_file

    assert find_parts_file(tmp_path) is not None

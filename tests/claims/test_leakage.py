"""What is known of test photos, and what is read from generated images, on a world of the smallest size."""

import re
from pathlib import Path

import pytest
import torch

from claims import leakage
from claims.leakage import FactorReader, TestSet, load_test_set, measure_leakage
from claims.probes import FEATURES, GROUPED_BY, chances, probe_table, stacked, table_text
from lightning_modules.spotdiff import SpotDiff
from networks.face_analysis import FacePack
from networks.sampler import SamplingSettings
from pocket.render.dataset import Grid, pocket10k
from pocket.render.factors import CLOTH_COLOURS
from pocket.tiny.components import SIDE, tiny_base, tiny_clip, tiny_faces

TestSet.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("leakage")
    tiny_base(root / "base")
    tiny_clip(root / "clip")
    tiny_faces(root / "faces")
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> TestSet:
    with pytest.MonkeyPatch.context() as patch:
        shards = sorted(pocket10k(folder, Grid(40, 3, 3), processes=1).glob("*.parquet"))
        patch.setattr(leakage, "find_shards", lambda source: shards)
        patch.setattr(leakage, "cache_folder", lambda: folder / "cache")
        patch.setattr(leakage.paths, "CLIP", folder / "clip")
        return load_test_set(SIDE)


@pytest.fixture(scope="module")
def run(folder: Path) -> SpotDiff:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = SpotDiff(str(folder / "base"), image_width=32, tokens=2, hidden=8).eval()
    module.sampling = SamplingSettings("ddim", steps=1)
    return module


def test_the_clothes_are_those_of_the_caption(data: TestSet) -> None:
    said = [re.search(r"in an? (\w+) (?:striped )?shirt", photo.caption)[1] for photo in data.photos]  # type: ignore[index]
    assert [list(CLOTH_COLOURS)[label] for label in data.labels["clothes"]] == said
    assert len(set(said)) > 2 and {len(labels) for labels in data.labels.values()} == {36}


def test_leakage_is_measured_by_subject(
    data: TestSet, run: SpotDiff, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that are the references themselves have all of their factors."""
    monkeypatch.setattr(leakage.paths, "CLIP", folder / "clip")
    faces, reader = FacePack(str(folder / "faces")), FactorReader(data)
    before = run.scale
    found = measure_leakage(run, 0.5, data, reader, faces, samples=3)
    assert (
        run.scale == before
        and run.keep == {"pose": 0.0, "background": 0.0}
        and set(found.leakage) == set(found.chance) == {"background", "clothes", "pose"}
    )
    assert found.identities.shape == (4,) and all(values.shape == (4,) for values in found.leakage.values())
    monkeypatch.setattr(leakage, "_generate", lambda run, data, picks: data.images[[i for _, i, _ in picks]])
    copies = measure_leakage(run, 0.5, data, reader, faces, samples=4)
    assert copies.identity > found.identity
    for factor in ("background", "clothes"):
        read, known = reader.read(data.images)[0][factor], data.labels[factor]
        assert copies.leakage[factor].mean() > copies.chance[factor]
        assert (read == known).mean() > 0.5, "the reader was fitted on these photos"


def test_every_feature_is_probed_for_every_factor(data: TestSet, run: SpotDiff) -> None:
    table = stacked([probe_table(run, data)] * 3)
    assert tuple(table) == FEATURES and all(tuple(row) == tuple(GROUPED_BY) for row in table.values())
    assert all(values.shape == (3, 4) and (values <= 1).all() for row in table.values() for values in row.values())
    lines = table_text("probes", table, chances(data)).splitlines()
    assert [line.split()[0] for line in lines] == ["probes", *FEATURES, "chance"]

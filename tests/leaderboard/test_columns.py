"""Columns against pandas and SciPy: the same records, averaged another way."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist
from torchmetrics.image.kid import poly_mmd

from contracts.errors import LikenessError
from contracts.records import Record
from leaderboard.report.statistics import RecordTable, counts, ratio_interval
from leaderboard.results.vectors import decode_vectors, encode_vector

SUBJECTS = ("a", "b", "c")
SCORES = (
    "identity_given_detection",
    "identity_to_reference",
    "identity_second_opinion",
    "copy_paste",
    "clip_i_foreground",
    "background_copied",
    "pose_leakage",
)
ALWAYS = ("clip_t", "edit_margin", "clip_i")
COLUMNS = (
    "detection_rate",
    "identity_given_detection",
    "identity_misses_zero",
    *SCORES[1:],
    *ALWAYS,
    "diversity",
    "vendi",
    "kid",
)


def with_misses(scores: dict[str, float | None]) -> dict[str, float | None]:
    """The scores of a person's image, and those that count a missed face."""
    given = scores["identity_given_detection"]
    return scores | {"detection_rate": float(given is not None), "identity_misses_zero": given or 0.0}


def set_identity(record: Record, given: float | None) -> None:
    record.scores.update(with_misses({**record.scores, "identity_given_detection": given}))


def make_records(seed: int = 0, found: float = 0.7, samples: int = 3) -> list[Record]:
    rng = np.random.default_rng(seed)
    records = []
    for subject, prompt, sample in itertools.product(SUBJECTS, ("p", "q"), range(samples)):
        feature = rng.normal(size=8)
        seen = bool(rng.random() < found)
        records.append(
            Record(
                request_id=f"{subject}.{prompt}.{sample:02d}",
                subject=subject,
                prompt_id=prompt,
                prompt_class="scene",
                sample=sample,
                image_sha256="",
                metric_versions={},
                scores=with_misses({name: float(rng.uniform(-1, 1)) if seen else None for name in SCORES})
                | {name: float(rng.uniform(-1, 1)) for name in ALWAYS},
                details={"faces": int(seen) * (1 + sample % 2), "tokens_cut": 3 * (prompt == "q"), "blank": False},
                features={"clip": encode_vector(np.float32(feature / np.linalg.norm(feature)))},
            )
        )
    return records


def value(name: str, records: list[Record], samples: int = 3) -> float | None:
    return ratio_interval(RecordTable(records, SUBJECTS, samples).columns(COLUMNS)[name]).value


def features(records: list[Record]) -> np.ndarray:
    return decode_vectors([record.features["clip"] for record in records]).astype(np.float64)


def test_columns_equal_plain_means() -> None:
    records = make_records()
    frame = pd.DataFrame([record.scores for record in records])
    assert value("detection_rate", records) == pytest.approx(frame["identity_given_detection"].notna().mean())
    assert value("identity_given_detection", records) == pytest.approx(frame["identity_given_detection"].mean())
    assert value("identity_misses_zero", records) == pytest.approx(frame["identity_given_detection"].fillna(0.0).mean())
    for name in (*SCORES[1:], *ALWAYS):
        assert value(name, records) == pytest.approx(frame[name].mean()), name


def test_every_subject_has_sums_of_its_own() -> None:
    records = make_records()
    column = RecordTable(records, SUBJECTS, 3).columns(COLUMNS)["clip_t"]
    frame = pd.DataFrame([{"subject": r.subject, "clip_t": r.scores["clip_t"]} for r in records])
    expected = frame.groupby("subject")["clip_t"].mean().loc[list(SUBJECTS)]
    np.testing.assert_allclose(column.numerator / column.denominator, expected)


def test_diversity_equals_the_mean_over_pairs_of_each_subject_and_prompt() -> None:
    records = make_records()
    groups = itertools.groupby(records, key=lambda record: (record.subject, record.prompt_id))
    expected = [pdist(features(list(group)), "cosine").mean() for _, group in groups]
    assert value("diversity", records) == pytest.approx(float(np.mean(expected)))


def test_vendi_counts_complete_prompts_only() -> None:
    records = make_records()
    whole = [record for record in records if (record.subject, record.prompt_id) != ("a", "p")]
    scores = []
    for _, group in itertools.groupby(whole, key=lambda record: (record.subject, record.prompt_id)):
        rows = features(list(group))
        values = np.linalg.eigvalsh(rows @ rows.T / 3)
        scores.append(math.exp(-sum(v * math.log(v) for v in values if v > 1e-12)))
    assert value("vendi", [r for r in records if r.request_id != "a.p.01"]) == pytest.approx(float(np.mean(scores)))
    assert value("vendi", records, samples=4) is None


def test_kid_is_that_of_torchmetrics_on_the_records_features() -> None:
    records = make_records()
    photos = np.random.default_rng(1).normal(size=(len(records), 8)).astype(np.float32)
    x, y = torch.from_numpy(features(records)), torch.from_numpy(photos).double()
    table = RecordTable(records, SUBJECTS, 3)
    found = table.whole("kid", photos)
    assert found.value == pytest.approx(float(poly_mmd(x, y, 3, None, 1.0)), abs=1e-9)
    assert (found.low, found.high, found.n) == (None, None, 3)
    assert table.whole("kid", None).value is None


def test_what_cannot_be_measured_is_not_zero() -> None:
    records = make_records(found=0.0, samples=1)
    assert value("detection_rate", records) == 0.0
    assert value("identity_misses_zero", records) == 0.0
    assert value("identity_given_detection", records) is None
    assert value("copy_paste", records) is None
    assert value("diversity", records) is None
    assert value("clip_t", []) is None


def test_a_miss_lowers_one_column_and_not_the_other() -> None:
    records = make_records(found=1.0)
    for record in records[::2]:
        set_identity(record, 0.5)
    whole = value("identity_misses_zero", records)
    for record in records[1::2]:
        set_identity(record, None)
    assert value("identity_given_detection", records) == pytest.approx(0.5)
    half = value("identity_misses_zero", records)
    assert half == pytest.approx(0.25) and whole is not None and not math.isnan(whole)


def test_over_a_balanced_set_the_mean_is_the_mean_over_classes() -> None:
    """Style prompts hide faces: as long as classes have as many prompts, they count no less for it."""
    records = make_records(found=0.8)
    for record in records:
        if record.prompt_id == "q":
            set_identity(record, None)
    for name in ("detection_rate", "identity_misses_zero", "clip_t"):
        by_class = [value(name, [r for r in records if r.prompt_id == prompt]) for prompt in ("p", "q")]
        assert value(name, records) == pytest.approx(np.mean(by_class)), name  # type: ignore[arg-type]


def test_a_record_without_the_score_of_a_column_is_named() -> None:
    records = make_records()
    del records[4].scores["clip_t"]
    with pytest.raises(LikenessError, match=r"a\.q\.01 has no score clip_t"):
        value("clip_t", records)
    records[4].scores["clip_t"] = 0.2
    records[4].features.clear()
    with pytest.raises(LikenessError, match="no readable feature clip"):
        value("diversity", records)


def test_failures_are_counted() -> None:
    records = make_records(found=0.5)
    found = counts(records)
    faces = [record.details["faces"] for record in records]
    assert (
        found["images"] == 18 and found["without_face"] == faces.count(0) and found["several_faces"] == faces.count(2)
    )
    assert found["prompts_cut"] == 9 and found["blank"] == 0
    records[5].details["blank"] = True
    assert counts(records) == {**found, "blank": 1}


def test_vectors_survive_their_text() -> None:
    vectors = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_array_equal(decode_vectors([encode_vector(v) for v in vectors]), vectors)
    with pytest.raises(ValueError, match=r"base64|padding"):
        decode_vectors(["no base64!"])

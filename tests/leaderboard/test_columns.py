"""Columns against pandas: the same records, averaged another way."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist

from contracts.records import Record
from leaderboard.columns import subject_columns
from leaderboard.statistics import ratio_interval

SUBJECTS = ("a", "b", "c")


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
                scores={
                    "identity": float(rng.uniform(-1, 1)) if seen else None,
                    "identity_to_reference": float(rng.uniform(-1, 1)) if seen else None,
                    "clip_t": float(rng.uniform(-1, 1)),
                },
                features={"clip": list(feature / np.linalg.norm(feature))},
            )
        )
    return records


def value(name: str, records: list[Record]) -> float | None:
    return ratio_interval(subject_columns(records, SUBJECTS)[name]).value


def test_columns_equal_plain_means() -> None:
    records = make_records()
    frame = pd.DataFrame([record.scores for record in records])
    assert value("detection_rate", records) == pytest.approx(frame["identity"].notna().mean())
    assert value("identity_given_detection", records) == pytest.approx(frame["identity"].mean())
    assert value("identity_misses_zero", records) == pytest.approx(frame["identity"].fillna(0.0).mean())
    assert value("identity_to_reference", records) == pytest.approx(frame["identity_to_reference"].mean())
    assert value("clip_t", records) == pytest.approx(frame["clip_t"].mean())


def test_diversity_equals_the_mean_over_pairs_of_each_subject_and_prompt() -> None:
    records = make_records()
    groups = itertools.groupby(records, key=lambda record: (record.subject, record.prompt_id))
    expected = [pdist(np.array([r.features["clip"] for r in group]), "cosine").mean() for _, group in groups]
    assert value("diversity", records) == pytest.approx(float(np.mean(expected)))


def test_what_cannot_be_measured_is_not_zero() -> None:
    records = make_records(found=0.0, samples=1)
    assert value("detection_rate", records) == 0.0
    assert value("identity_misses_zero", records) == 0.0
    assert value("identity_given_detection", records) is None
    assert value("diversity", records) is None


def test_a_miss_lowers_one_column_and_not_the_other() -> None:
    records = make_records(found=1.0)
    for record in records[::2]:
        record.scores["identity"] = 0.5
    whole = value("identity_misses_zero", records)
    for record in records[1::2]:
        record.scores["identity"] = None
    assert value("identity_given_detection", records) == pytest.approx(0.5)
    half = value("identity_misses_zero", records)
    assert half == pytest.approx(0.25) and whole is not None and not math.isnan(whole)

"""Temporary: names of scores in records as they were before metrics had one name each."""

import numpy as np

from contracts.records import Record

HIDDEN = ("clip_i_to_reference", "image_similarity_to_reference")
TRIO = ("detection_rate", "identity_given_detection", "identity_misses_zero")
ORDER = (
    "identity", "identity_to_reference", "copy_paste", "identity_second_opinion", "clip_i", "clip_i_foreground",
    "clip_i_to_reference", "image_similarity", "image_similarity_foreground", "image_similarity_to_reference",
    "clip_t", "edit_margin", "background_leakage", "background_copied", "pose_leakage", "lpips_diversity",
)  # fmt: skip


def to_old(scores: dict) -> dict:
    renamed = {("identity" if n == "identity_given_detection" else n): v for n, v in scores.items()}
    return {name: renamed[name] for name in ORDER if name in renamed}


def from_old(records: list[Record], name: str) -> np.ndarray:
    key = "identity" if name in TRIO else name
    values = np.array([r.scores[key] for r in records], np.float64)
    has = np.array([r.has_face for r in records], bool)
    if name == "detection_rate":
        return np.where(has, np.isfinite(values).astype(float), np.nan)
    if name == "identity_misses_zero":
        return np.where(has, np.nan_to_num(values, nan=0.0), np.nan)
    return values

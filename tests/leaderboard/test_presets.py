"""Every preset against its peer's convention, computed by hand on records small enough to follow."""

import itertools

import numpy as np
import pytest

from contracts.records import Record
from leaderboard.report.presets import PRESETS, preset_values
from leaderboard.report.statistics import RecordTable, ratio_interval
from leaderboard.results.vectors import encode_vector
from metrics.conventions import without_outliers


def record(prompt: str, sample: int, faces: int, **scores: float | None) -> Record:
    details = {"faces": faces, "tokens_cut": 0, "blank": False}
    features = {"clip": encode_vector(np.ones(1, np.float32))}
    return Record(f"s.{prompt}.{sample:02d}", "s", prompt, "scene", sample, "", {}, scores, details, features)


def records(reference: list[float | None], faces: list[int] | None = None, **more: list[float | None]) -> list[Record]:
    """Two images of each prompt in turn, with ``identity_to_reference`` and further scores.

    ``faces`` are in the images: one where there is a score, if not said.
    """
    columns = {"identity_to_reference": reference, **more}
    counted = faces or [int(value is not None) for value in reference]
    return [
        record("pqrstuvw"[i // 2], i % 2, counted[i], **{name: values[i] for name, values in columns.items()})
        for i in range(len(reference))
    ]


def test_fastcomposer_counts_misses_and_negatives_as_0() -> None:
    given = records([0.6, None, -0.2, 0.4], clip_t=[0.2, 0.2, 0.3, 0.3])
    expected = {"identity_to_reference": (0.6 + 0 + 0 + 0.4) / 4, "clip_t": 0.25}
    assert preset_values(given)["fastcomposer"] == pytest.approx(expected)


def test_celeb_basis_leaves_misses_and_empty_groups_out_and_averages_groups() -> None:
    given = records([0.6, None, 0.2, 0.4, None, None, -0.3, 0.1], clip_t=[0.1] * 8)
    # prompt p: 0.6; q: (0.2 + 0.4) / 2; r: nothing found, dropped; s: (-0.3 + 0.1) / 2 is below 1e-6, dropped
    assert preset_values(given)["celeb_basis"]["identity_to_reference"] == pytest.approx((0.6 + 0.3) / 2)


def test_the_two_conventions_rank_two_methods_the_other_way_round() -> None:
    """The toy case of a method that fails on hard prompts: leaving misses out rewards it, counting them does not."""
    steady, picky = records([0.5, 0.5, 0.5, 0.5], clip_t=[0.1] * 4), records([0.6, None, 0.6, None], clip_t=[0.1] * 4)
    a, b = preset_values(steady), preset_values(picky)
    assert a["celeb_basis"]["identity_to_reference"] < b["celeb_basis"]["identity_to_reference"]  # type: ignore[operator]
    assert a["fastcomposer"]["identity_to_reference"] > b["fastcomposer"]["identity_to_reference"]  # type: ignore[operator]


def test_dreambench_is_three_plain_means() -> None:
    given = records(
        [None, None], image_similarity_to_reference=[0.4, 0.6], clip_i_to_reference=[0.7, 0.8], clip_t=[0.25, 0.35]
    )
    expected = {"image_similarity_to_reference": 0.5, "clip_i_to_reference": 0.75, "clip_t": 0.3}
    assert preset_values(given)["dreambench"] == pytest.approx(expected)


def test_multiid_takes_outliers_out_before_the_mean() -> None:
    scores = [0.10, 0.12, 0.14, 0.16, 0.18, 0.20, -0.90, None]
    # of the seven found: quartiles 0.11 and 0.17, so what lies outside of 0.02..0.26 goes: -0.90
    given = records(scores, identity_given_detection=scores, copy_paste=scores)
    expected = (0.10 + 0.12 + 0.14 + 0.16 + 0.18 + 0.20) / 6
    assert preset_values(given)["multiid"] == pytest.approx(
        {"identity_given_detection": expected, "identity_to_reference": expected, "copy_paste": expected}
    )


def test_multiid_leaves_crowds_out_of_copy_paste_alone() -> None:
    scores = [0.2, 0.4, 0.6, 0.8]
    given = records(scores, faces=[1, 2, 1, 3], identity_given_detection=scores, copy_paste=scores)
    assert preset_values(given)["multiid"] == pytest.approx(
        {"identity_given_detection": 0.5, "identity_to_reference": 0.5, "copy_paste": (0.2 + 0.6) / 2}
    )


def test_half_of_the_values_are_never_outliers() -> None:
    """So the median, which the peer takes where fewer are left, is never called for."""
    for n in range(1, 8):
        for gaps in itertools.product([0.0, 1e-3, 1.0, 1e4], repeat=n - 1):
            values = np.cumsum([0.0, *gaps])
            assert 2 * len(without_outliers(values)) >= n, values


def test_ours_does_not_trim() -> None:
    """The trap behind the rule: without its heavy tail a method that fails looks as good as one that does not."""
    values = [[0.15] * 8, [0.15] * 7 + [-0.9]]
    names = ("identity_given_detection", "identity_misses_zero", "copy_paste")
    steady, failing = (records(found, **dict.fromkeys(names, found)) for found in values)  # type: ignore[arg-type]
    trimmed = [preset_values(given)["multiid"]["identity_given_detection"] for given in (steady, failing)]
    assert trimmed[0] == pytest.approx(trimmed[1])
    for name in ("identity_misses_zero", "identity_given_detection", "copy_paste"):
        ours = [ratio_interval(RecordTable(given, ["s"], 2).columns([name])[name]).value for given in (steady, failing)]
        assert ours == pytest.approx([0.15, (7 * 0.15 - 0.9) / 8]), name


def test_nothing_measured_is_none_in_every_preset() -> None:
    for name, values in preset_values(records([None, None])).items():
        assert values.keys() == PRESETS[name].columns.keys()
        if name != "fastcomposer":  # which counts a miss as 0
            assert set(values.values()) == {None}
    assert preset_values(records([None, None]))["fastcomposer"]["identity_to_reference"] == 0.0
    assert preset_values([])["fastcomposer"]["identity_to_reference"] is None

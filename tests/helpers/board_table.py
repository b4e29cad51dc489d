"""The tables of README and docs, made from a board: what the pages say is compared with it."""

from collections.abc import Mapping

from leaderboard.results.anchors import ANCHORS

README = {
    "identity recovered ↑": ("identity_recovered", True),
    "right person found ↑": ("retrieval_top1", False),
    "copy-paste ↓": ("copy_paste", False),
    "prompt kept ↑": ("prompt_kept", True),
    "face complete ↑": ("face_complete", False),
    "diversity ↑": ("diversity", False),
}
RESULTS = {
    "identity recovered": ("identity_recovered", True),
    "identity, misses 0": ("identity_misses_zero", True),
    "second network": ("identity_second_opinion", False),
    "right person found": ("retrieval_top1", True),
    "copy-paste": ("copy_paste", True),
    "prompt kept": ("prompt_kept", True),
    "detection rate": ("detection_rate", True),
    "face complete": ("face_complete", True),
    "CLIP-T": ("clip_t", False),
    "diversity": ("diversity", False),
}
"""Metric of each column, and whether its interval is shown."""


def table(board: Mapping, columns: Mapping[str, tuple[str, bool]]) -> list[str]:
    """The lines of the table of a board, in its order."""
    lines = ["| entry | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for entry in board["entries"]:
        note = ANCHORS[entry["kind"]].note if entry["kind"] in ANCHORS else ""
        name = f"{entry['label']} ({note})" if note else entry["label"]
        cells = (_cell(entry["metrics"][metric], interval) for metric, interval in columns.values())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def spoilt(board: Mapping) -> list[str]:
    """The lines of the table of what the judges make of spoilt faces."""
    titles = {"detection_rate": "found", "face_complete": "complete", "identity_misses_zero": "identity"}
    titles["identity_second_opinion"] = "second network"
    lines = ["| photos | " + " | ".join(titles.values()) + " |", "|---|" + "---:|" * len(titles)]
    return lines + [
        f"| {row['photos']} | " + " | ".join(f"{row[name]:.3f}" for name in titles) + " |"
        for row in board["calibration"]["rows"]
    ]


def _cell(found: Mapping, interval: bool) -> str:
    if found["value"] is None:
        return "n/a"
    text = f"{found['value']:.3f}"
    return f"{text} [{found['low']:.3f}, {found['high']:.3f}]" if interval and found["low"] is not None else text

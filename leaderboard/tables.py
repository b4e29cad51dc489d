"""Stage 3: the leaderboard, a pure function of protocol, cards and records. No model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pandas as pd

from contracts.errors import LikenessError
from contracts.records import Interval
from leaderboard.cards import derived_cards
from leaderboard.columns import subject_columns
from leaderboard.protocol import Protocol
from leaderboard.results import Entry, EntryFolder, Results, read_json
from leaderboard.statistics import Ratio, identity_recovered, prompt_kept, ratio_interval
from metrics.card import MetricCard

DECIMALS = 6
COLUMNS = (
    "identity_recovered",
    "prompt_kept",
    "detection_rate",
    "identity_given_detection",
    "identity_misses_zero",
    "identity_to_reference",
    "clip_t",
    "diversity",
)
COSTS = ("seconds_per_image", "enrol_seconds", "trainable_parameters")
_ORDER = {"ceiling": 0, "method": 1, "floor": 2}


def make_leaderboard(results: Results) -> tuple[dict, list[str]]:
    """The content of ``leaderboard.json``, and a note for each entry that was left out because it is not complete.

    Raises:
        LikenessError: floor or ceiling are not complete, or an entry was scored by other metrics.
    """
    protocol, cards = results.protocol(), _read_cards(results)
    measured: list[tuple[Entry, dict[str, Ratio]]] = []
    notes = []
    for entry in results.entries():
        columns, note = _columns(results.entry(entry.label), protocol)
        if columns is None:
            notes.append(note)
        else:
            measured.append((entry, columns))
    floor = next((columns for entry, columns in measured if entry.kind == "floor"), None)
    ceiling = next((columns for entry, columns in measured if entry.kind == "ceiling"), None)
    if floor is None or ceiling is None:
        raise LikenessError("; ".join(notes) or f"{results.root} holds no results: run `--stage generate` first")
    rows = [
        {
            "label": entry.label,
            "kind": entry.kind,
            "metrics": {name: _rounded(i) for name, i in _intervals(columns, floor, ceiling).items()},
            "costs": _costs(entry, results.entry(entry.label)),
        }
        for entry, columns in measured
    ]
    rows.sort(key=_rank)
    board = {
        "protocol": {**protocol.to_json(), "images": len(protocol.requests)},
        "metrics": {card.name: card.to_json() for card in cards.values()},
        "entries": rows,
    }
    return board, notes


def _columns(folder: EntryFolder, protocol: Protocol) -> tuple[dict[str, Ratio] | None, str]:
    """Per-subject sums of a complete entry, or ``None`` and why there are none."""
    records = folder.records()
    planned = [request.id for request in protocol.requests]
    done = [records[request_id] for request_id in planned if request_id in records]
    if len(done) < len(planned):
        return None, f"{folder.root.name}: {len(done)} of {len(planned)} images are scored"
    if any(record.metric_versions != protocol.metrics for record in done):
        raise LikenessError(f"{folder.root.name} was scored by other metrics: run `--stage score` again")
    return subject_columns(done, tuple(protocol.subjects)), ""


def _intervals(columns: Mapping[str, Ratio], floor: Mapping[str, Ratio], ceiling: Mapping[str, Ratio]) -> dict:
    identity, fit = "identity_misses_zero", "clip_t"
    found = {name: ratio_interval(column) for name, column in columns.items()}
    found["identity_recovered"] = identity_recovered(columns[identity], floor[identity], ceiling[identity])
    found["prompt_kept"] = prompt_kept(columns[fit], floor[fit])
    return {name: found[name] for name in COLUMNS}


def _rounded(interval: Interval) -> dict[str, float | int | None]:
    return {name: round(v, DECIMALS) if isinstance(v, float) else v for name, v in asdict(interval).items()}


def _rank(row: Mapping) -> tuple:
    """Ceiling, methods from best to worst, floor; equal ones by label."""
    value = row["metrics"]["identity_recovered"]["value"]
    return _ORDER[row["kind"]], float("inf") if value is None else -value, row["label"]


def _costs(entry: Entry, folder: EntryFolder) -> dict[str, float | int | None]:
    """Seconds of one process per image, and what the run's manifest says; ``None`` where it is not known."""
    timings = folder.timings() if entry.kind != "ceiling" else []
    images = sum(line["images"] for line in timings)
    seconds = sum(line["seconds"] for line in timings)
    per_image = round(seconds / images, 4) if images else None
    return {"seconds_per_image": per_image, **{name: (entry.costs or {}).get(name) for name in COSTS[1:]}}


def _read_cards(results: Results) -> dict[str, MetricCard]:
    cards = {card["name"]: MetricCard(**card) for card in read_json(results.cards)}
    cards |= {card.name: card for card in derived_cards(cards)}
    return {name: cards[name] for name in COLUMNS}


def to_frame(board: Mapping) -> pd.DataFrame:
    """One row per entry; a metric takes the columns NAME, NAME_low, NAME_high and NAME_n."""
    rows = []
    for entry in board["entries"]:
        row = {"label": entry["label"], "kind": entry["kind"]}
        for name, found in entry["metrics"].items():
            row |= {
                name: found["value"],
                f"{name}_low": found["low"],
                f"{name}_high": found["high"],
                f"{name}_n": found["n"],
            }
        rows.append({**row, **entry["costs"]})
    return pd.DataFrame(rows)


def to_csv(board: Mapping) -> str:
    """The table as CSV; an empty cell is a value that is not defined or not known."""
    frame = to_frame(board)
    counts = [name for name in frame.columns if name.endswith("_n") or name == "trainable_parameters"]
    return frame.astype(dict.fromkeys(counts, "Int64")).to_csv(index=False, lineterminator="\n")


def to_markdown(board: Mapping) -> str:
    """The table as Markdown, with its protocol and what each column means."""
    protocol, cards = board["protocol"], {n: MetricCard(**card) for n, card in board["metrics"].items()}
    head = ["entry", *(f"{name.replace('_', ' ')} {cards[name].arrow}" for name in COLUMNS)]
    costs = [name for name in COSTS if any(entry["costs"][name] is not None for entry in board["entries"])]
    head += [name.replace("_", " ") for name in costs]
    rows = [
        [
            _label(entry),
            *(_cell(entry["metrics"][name]) for name in COLUMNS),
            *(_cost(entry["costs"][n]) for n in costs),
        ]
        for entry in board["entries"]
    ]
    about = (
        f"Protocol `{protocol['hash']}`: {len(protocol['subjects'])} subjects x {len(protocol['prompts'])} prompts x "
        f"{protocol['samples']} samples = {protocol['images']} images per entry; {protocol['sampler']}, "
        f"{protocol['steps']} steps, guidance {protocol['guidance']:g}, {protocol['resolution']} pixels, "
        f"seed {protocol['seed']}. In brackets: 95 % bootstrap interval over subjects."
    )
    legend = [f"- {card.name.replace('_', ' ')}: `{card.version}`" for card in cards.values()]
    return "\n".join(["# Leaderboard", "", about, "", *_markdown_rows(head, rows), "", "Columns:", "", *legend, ""])


def _markdown_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (head, *rows)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return ["| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:])]


def _label(entry: Mapping) -> str:
    return entry["label"] if entry["kind"] == "method" else f"{entry['label']} ({entry['kind']})"


def _cell(found: Mapping) -> str:
    if found["value"] is None:
        return "n/a"
    if found["low"] is None:
        return f"{found['value']:.3f}"
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _cost(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"

"""Puts board and images into one HTML file. Style and script are ours and named by hash in its security policy, so a
text that got past the escaping could still not run."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from contracts.records import Record
from leaderboard.report.page import drawings, view
from leaderboard.report.page.contact_sheets import MAX_IMAGES, choose, make_sheets
from leaderboard.report.statistics import FEW
from leaderboard.report.tables.titles import (
    anchor_note,
    count_title,
    of_several,
    range_text,
    spoilt_faces,
    title_of,
    warnings,
)
from leaderboard.results.folder import Results

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Asset:
    """A file of ours that is written into the page, and its name in the security policy."""

    text: Markup
    hash: str

    @classmethod
    def read(cls, name: str) -> "Asset":
        """The asset called ``name``."""
        text = (_HERE / "assets" / name).read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return cls(Markup(text), f"sha256-{digest}")


def render_page(
    results: Results, board: Mapping, records: Mapping[str, Mapping[str, Record]], max_images: int = MAX_IMAGES
) -> str:
    """The whole page.

    Args:
        board: The content of ``leaderboard.json``.
        records: Those of its entries, by label and request.
        max_images: Thumbnails that the page may hold; a larger evaluation shows its first subjects and samples.

    Raises:
        LikenessError: an image is missing or damaged.
    """
    protocol = results.protocol()
    labels = [entry["label"] for entry in board["entries"]]
    choice = choose(protocol, len(labels), max_images)
    sheets = make_sheets(results, labels, records, choice)
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["anchor_note"] = anchor_note  # for macros, which see no variables of the page
    return environment.get_template("page.html").render(
        board=board,
        warnings=warnings(board),
        style=Asset.read("page.css"),
        script=Asset.read("page.js"),
        columns=view.columns(board),
        rows=view.rows(board),
        trade_offs=drawings.trade_offs(board),
        sweeps=drawings.sweeps(board),
        new_subject=drawings.new_subject(board),
        entry_costs={entry["label"]: drawings.cost_texts(board, entry) for entry in board["entries"]},
        costs=drawings.costs(board),
        breakdowns=view.breakdowns(board),
        calibration=board.get("calibration"),
        spoilt_faces=spoilt_faces,
        few=FEW,
        of_several=of_several(board),
        count_title=count_title,
        titles={name: title_of(board, name) for name in board["metrics"]},
        ranges={name: range_text(card["low"], card["high"]) for name, card in board["metrics"].items()},
        manifests={entry["label"]: view.manifest_text(entry) for entry in board["entries"]},
        sheets=sheets,
        choice=choice,
        classes=list(dict.fromkeys(prompt.prompt_class for prompt in choice.prompts)),
        not_shown=choice.missing(protocol),
    )

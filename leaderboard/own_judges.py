"""Judges that a method was made with: it is fitted to what such a network sees, and looks better than it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from contracts.errors import LikenessError
from leaderboard.settings import JudgeSettings
from networks.fingerprints import folder_fingerprint

_FIND_ONLY = ("detector", "faces")
"""Keys of face packs that only find faces, where a second opinion only recognises them."""


def own_judges(run: Path, judges: JudgeSettings) -> dict[str, str]:
    """Configuration key of the method by judge, where both name the same files: ``{"clip": "data.image_encoder"}``.

    Raises:
        LikenessError: the run has no readable ``config.yaml``.
    """
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        texts = [pair for part in ("model", "data") for pair in _texts(part, config.get(part))]
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise LikenessError(f"--runs: {run / 'config.yaml'} is missing or damaged ({error})") from error
    found = {}
    for judge, source in vars(judges).items():
        for key, text in texts:
            apart = judge == "second_faces" and key.rpartition(".")[2] in _FIND_ONLY
            if source and not apart and _same(source, text):
                found[judge] = key.replace(".init_args", "")
                break
    return found


def _texts(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Every text of a part of a configuration, with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(f"{key}.{name}", inner)


def _same(judge: str, own: str) -> bool:
    """Whether two sources are one, or hold the same files; data folders are told apart without reading them."""
    if judge == own:
        return True
    first, second = Path(judge), Path(own)
    if not (first.is_dir() and second.is_dir()) or _listing(first) != _listing(second):
        return False
    return folder_fingerprint(first) == folder_fingerprint(second)


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file())

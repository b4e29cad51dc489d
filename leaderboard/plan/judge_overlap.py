"""Judges that a method was made with: it is fitted to what such a network sees, and looks better than it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from huggingface_hub import snapshot_download

from contracts.files import file_sha256
from contracts.settings import JudgeSettings
from lightning_modules.run import Run
from networks.face_analysis import recognises_faces

_FACE_JUDGES = ("faces", "second_faces")
_FIND_ONLY = ("detector", "faces")
"""Keys of face packs that only find faces: what a pack holds to recognise them is not used there."""
_NETWORKS = (".onnx", ".safetensors")


def own_judges(run: Run, judges: JudgeSettings) -> dict[str, str]:
    """Configuration key of the method by judge, where both use the same network: ``{"clip": "data.image_encoder"}``.

    Networks are the same where a file of the one has the content of a file of the other. Of a face pack only the
    recogniser counts, as a detector says nothing of whose face it finds.

    Raises:
        LikenessError: the run has no readable ``config.yaml``.
    """
    texts = [pair for part in ("model", "data") for pair in _texts(part, run.config.get(part))]
    found = {}
    for judge, source in vars(judges).items():
        for key, text in texts:
            apart = judge in _FACE_JUDGES and key.rpartition(".")[2] in _FIND_ONLY
            if source and not apart and _shared(judge, source, text):
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


def _shared(judge: str, source: str, own: str) -> bool:
    """Whether a network of the judge in ``source`` is one in ``own`` too; other folders are told apart unread."""
    if source == own:
        return True
    return any(judge not in _FACE_JUDGES or recognises_faces(file) for file in _common(_local(source), _local(own)))


def _common(first: Path, second: Path) -> Iterator[Path]:
    """The network files of the first folder whose content a file of the second has, under any name."""
    others = _networks(second)
    for file in _networks(first):
        same_size = [other for other in others if other.stat().st_size == file.stat().st_size]
        if same_size and file_sha256(file) in map(file_sha256, same_size):
            yield file


def _local(source: str) -> Path:
    """Where a model given as a file, a folder or a hub name lies; nothing is fetched for the comparison."""
    path = Path(source)
    if path.exists() or source.count("/") != 1:
        return path
    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (OSError, ValueError):  # not on this machine, or no name of a model at all
        return path


def _networks(source: Path) -> list[Path]:
    files = source.iterdir() if source.is_dir() else [source]
    return [file for file in files if file.suffix in _NETWORKS and file.is_file()]

"""What lies in the folder of a face pack: which file finds faces, which one recognises them, and under what licence.

A file is told by its inputs and outputs, never by its name. Two forms are known. In insightface's there are SCRFD
detectors and recognisers of aligned crops, in OpenCV's YuNet and SFace. A folder may have its detector in one form and
its recogniser in the other. Of several files for a task the first in sorted order is taken, as insightface does. A
third network that reads the parts of a face may lie beside them (:mod:`networks.face_parts`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from contracts.errors import LikenessError
from contracts.strict_json import parse
from networks.face_parts import OUTPUT

Task = Literal["detection", "recognition", "parts"]
Library = Literal["insightface", "OpenCV"]
NO_LICENCE = "licence not stated"

_YUNET = {f"{part}_{stride}" for part in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)}
_LICENCE_FILE = re.compile(r"(licen[cs]e|copying)\b.*|.*\.licen[cs]e", re.IGNORECASE)
_LONGEST = 80  # characters of a licence on a card


@dataclass(frozen=True)
class PackFile:
    """An ONNX file of a pack."""

    path: Path
    task: Task | None
    """``None`` for networks of another task, landmarks or age for instance."""
    library: Library
    """Whose form the file has, and so which library runs it."""
    side: int | None
    """Side of the square input in pixels; ``None`` where the file leaves it free."""
    licence: str
    """What the file's metadata say; empty where they say nothing."""
    manifest_folder: Path | None = None
    """The pack whose ``manifest.json`` says what the file is for and how it is fed, as insightface 2 has them."""


def onnx_files(source: Path) -> list[Path]:
    """The ONNX files of a folder in sorted order."""
    return sorted(source.glob("*.onnx"))


def find_file(source: Path, task: Literal["detection", "recognition"]) -> PackFile:
    """The file of a pack that does a task; raises ``LikenessError`` where none does, or one cannot be read."""
    if (listed := _in_manifest(source, task)) is not None:
        return replace(read_pack_file(listed), task=task, library="insightface", manifest_folder=source)
    for file in map(read_pack_file, onnx_files(source)):
        if file.task == task:
            return file
    who = "detector" if task == "detection" else "recogniser"
    raise LikenessError(f"face pack '{source}' has no {who} among its .onnx files")


def find_parts_file(source: str | Path) -> PackFile | None:
    """The file of a pack that reads the parts of a face, ``None`` where there is none, or no such folder."""
    return next((file for file in map(read_pack_file, onnx_files(Path(source))) if file.task == "parts"), None)


def _in_manifest(source: Path, task: Task) -> Path | None:
    if not (source / "manifest.json").is_file():
        return None
    from insightface.model_zoo.package_manifest import has_model_package_manifest, load_model_package

    if not has_model_package_manifest(source):
        return None
    try:
        return Path(load_model_package(source).task(task).path)
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise LikenessError(f"face pack '{source}': manifest.json is not usable: {error}") from error


def recognises_faces(file: Path) -> bool:
    """Whether an ONNX file is taken for a recogniser; False for a file that is no ONNX."""
    try:
        return read_pack_file(file).task == "recognition"
    except LikenessError:
        return False


def read_pack_file(path: Path) -> PackFile:
    """What the inputs and outputs of an ONNX file say; raises ``LikenessError`` where it cannot be read."""
    try:
        status = path.stat()
        return _read(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise LikenessError(f"face pack '{path.parent}' cannot be read: {path.name}: {error.strerror}") from error


@lru_cache(maxsize=64)
def _read(path: Path, size: int, changed: int) -> PackFile:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise LikenessError(f"face pack '{path.parent}' cannot be read: {path.name} is no ONNX file") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in weights]
    outputs = [made.name for made in model.graph.output]
    side = _side(inputs)
    said = [prop.value.strip() for prop in model.metadata_props if prop.key.lower() in ("license", "licence")]
    task = _task(outputs, side)
    by_opencv = task is not None and (set(outputs) >= _YUNET or _is_sface(inputs[0], model.graph.output[0]))
    return PackFile(path, task, "OpenCV" if by_opencv else "insightface", side, said[0] if said else "")


def _side(inputs: Sequence[Any]) -> int | None:
    sides = [_shape(given)[2:] for given in inputs]
    return sides[0][0] if len(sides) == 1 and len(sides[0]) == 2 and sides[0][0] == sides[0][1] > 0 else None


def _shape(value: Any) -> list[int]:
    """The axes of an input or output, 0 where one is free."""
    return [axis.dim_value for axis in value.type.tensor_type.shape.dim]


def _task(outputs: Sequence[str], side: int | None) -> Task | None:
    # A detector has an output for each stride. Insightface's landmark models read 192 pixels, the one for age 96.
    if len(outputs) >= 5:
        return "detection"
    if list(outputs) == [OUTPUT]:
        return "parts"
    return "recognition" if len(outputs) == 1 and side is not None and side >= 112 and side != 192 else None


def _is_sface(given: Any, made: Any) -> bool:
    return (given.name, made.name, _shape(made)[1:]) == ("data", "fc1", [128])


def licence_of(source: Path, files: Sequence[PackFile]) -> str:
    """The first line of a licence file in the folder, else what the metadata of ``files`` say, else that nobody does.

    Of insightface's signed ``MODEL.LICENSE`` it is what the file grants.
    """
    for path in sorted(path for path in source.iterdir() if path.is_file() and _LICENCE_FILE.fullmatch(path.name)):
        text = path.read_text(errors="replace")
        lines = [line.strip(" \t#*=-") for line in text.splitlines()]
        if first := next(filter(None, lines), ""):
            return f"{_grant(text) or first[:_LONGEST]} ({path.name})"
    return "; ".join(dict.fromkeys(file.licence[:_LONGEST] for file in files if file.licence)) or NO_LICENCE


def _grant(text: str) -> str:
    try:
        return str(parse(text)["grant"])
    except (ValueError, KeyError, TypeError):
        return ""

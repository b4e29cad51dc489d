"""A folder of images that another program made: which file answers which request, and whether all of them do.

A file is named by its request (``s0001.beach.00.png``), or ``map.csv`` beside the images says whose it is. Nothing
outside of the folder is read, also not through links.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from contracts.errors import LikenessError
from contracts.protocol import Protocol
from leaderboard.images import about
from leaderboard.images.requests_file import NAME as REQUESTS
from leaderboard.images.requests_file import check_requests

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAP = "map.csv"
_COLUMNS = ("file", "request")
_NAMED = 3
"""So many names stand in a message for all."""


@dataclass(frozen=True)
class Matched:
    """What of a folder answers a protocol."""

    files: Mapping[str, Path]
    """By request, in the order of the plan."""
    missing: tuple[str, ...]
    """Requests without a file."""
    superfluous: tuple[str, ...]
    """Names of files that answer no request."""


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images under a label, read but for the images themselves."""

    label: str
    folder: Path
    manifest: Mapping | None
    """What ``entry.json`` says."""
    answers: Sequence[tuple[str, Path]]
    """What each file would answer, and where it lies: a request's id, if the name is one."""
    mapped: Mapping[str, int]
    """The requests that ``map.csv`` names, and in which line."""
    others: Sequence[str]
    """Names of files that are no images."""

    def match(self, protocol: Protocol, allow_missing: float) -> Matched:
        """Which file answers which request.

        Args:
            allow_missing: Share of the requests, 0 to 1, that may have none.

        Raises:
            LikenessError: files answer the requests of another protocol, two of them answer one request, or more
                requests than allowed have none.
        """
        self._check_protocol(protocol)
        planned = dict.fromkeys(request.id for request in protocol.requests)
        for request, line in self.mapped.items():
            if request not in planned:
                raise LikenessError(f"{self.folder / MAP}, line {line}: the protocol has no request {request!r}")
        files: dict[str, Path] = {}
        superfluous = list(self.others)
        for request, path in self.answers:
            if request not in planned:
                superfluous.append(path.name)
            elif (first := files.setdefault(request, path)) != path:
                raise LikenessError(
                    f"--images: two files in {self.folder} answer request {request}: {first.name} and {path.name}: "
                    "remove one"
                )
        missing = tuple(request for request in planned if request not in files)
        if not files:
            raise LikenessError(
                f"--images: none of the {len(superfluous)} files in {self.folder} is named by a request of this "
                f"protocol, such as {missing[0]}.png: `--stage plan` writes the names to {REQUESTS}"
            )
        if len(missing) > allow_missing * len(planned) + 1e-9:
            raise LikenessError(
                f"--images: {self.folder} lacks {len(missing)} of {len(planned)} images ({some(missing)})"
                + (f" and holds {len(superfluous)} other files ({some(superfluous)})" if superfluous else "")
                + ": add them, or allow a share to be missing with --allow_missing"
            )
        return Matched(
            {request: files[request] for request in planned if request in files}, missing, tuple(superfluous)
        )

    def _check_protocol(self, protocol: Protocol) -> None:
        said = (self.manifest or {}).get("protocol")
        if said not in (None, protocol.hash):
            raise LikenessError(
                f"--images: the images in {self.folder} answer protocol {said} by their {about.NAME}, this one is "
                f"{protocol.hash}"
            )
        check_requests(self.folder, protocol)


def open_folder(label: str, folder: Path) -> ImageFolder:
    """Look at what lies in a folder.

    Raises:
        LikenessError: it cannot be read, holds no images or a link to outside of it, or ``map.csv`` or ``entry.json``
            is not well formed.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
        mapped = _read_map(folder)
        named = {path for _, path, _ in mapped}
        images = [path for path in paths if path.suffix.lower() in SUFFIXES and path not in named]
        answers = [(request, path) for request, path, _ in mapped if path.is_file()] + [(p.stem, p) for p in images]
        inside = sorted({p.parent.name for p in folder.glob("*/*") if p.suffix.lower() in SUFFIXES})
    except OSError as error:
        raise LikenessError(f"--images: {folder} cannot be read: {error.strerror}") from error
    if not answers:
        where = f"; there are some in its folder {inside[0]}" if inside else ""
        raise LikenessError(f"--images: {folder} holds no images ({', '.join(SUFFIXES)}){where}")
    used, home = {*images, *named}, folder.resolve()
    for _, path in answers:
        if not path.resolve().is_relative_to(home):
            raise LikenessError(f"--images: {path} leads out of {folder}, which is not followed: copy the file")
    ours = {about.NAME, MAP, REQUESTS}
    return ImageFolder(
        label=label,
        folder=folder,
        manifest=about.read_about(folder),
        answers=answers,
        mapped={request: line for request, _, line in mapped},
        others=[p.name for p in paths if p not in used and p.name not in ours],
    )


def _read_map(folder: Path) -> list[tuple[str, Path, int]]:
    """Request, file and line of every row of ``map.csv``, if there is one."""
    path = folder / MAP
    if not path.is_file():
        return []
    rows = list(_map_rows(path))
    lines: dict[str, int] = {}
    for request, file, line in rows:
        if "\\" in file or PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise LikenessError(f"{path}, line {line}: {file!r} must name a file in or below {folder}")
        if request in lines:
            raise LikenessError(f"{path}, line {line}: request {request} has a file already, in line {lines[request]}")
        lines[request] = line
    return [(request, folder / file, line) for request, file, line in rows]


def _map_rows(path: Path) -> Iterator[tuple[str, str, int]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise LikenessError(f"{path} must begin with the line {','.join(_COLUMNS)}")
            for row in reader:
                name, request = (row[column] or "" for column in _COLUMNS)
                if not name or not request or None in row:
                    raise LikenessError(f"{path}, line {reader.line_num}: it must hold a file and a request")
                yield request, name, reader.line_num
    except (csv.Error, UnicodeDecodeError) as error:
        raise LikenessError(f"{path} is no CSV in UTF-8: {error}") from error


def some(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are. One that would break the line, or hide in it, is quoted."""
    shown = [name if name.isprintable() else repr(name) for name in names[:_NAMED]]
    return ", ".join(shown) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")

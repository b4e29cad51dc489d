"""Where a dataset comes from."""

import re
from collections.abc import Sequence
from pathlib import Path

from contracts.errors import LikenessError
from contracts.files import cache_folder
from datamodules.dreambooth import TABLE, dreambooth_shard

_HUB_NAME = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")


def find_shards(source: str, cache_dir: str | Path | None = None, download: bool = False) -> list[Path]:
    """The Parquet shards of a data source, in sorted order.

    Only files that end in ``.parquet`` are ever taken from a source, so no code comes with it.

    Args:
        source: ``pocket10k`` (rendered here on first use), a folder with Parquet shards in it or below it, the
            DreamBooth data set's folder (see :mod:`datamodules.dreambooth`), or a dataset on the Hugging Face hub as
            ``owner/name`` or ``owner/name@revision``.
        cache_dir: See :func:`contracts.files.cache_folder`.
        download: Whether a hub dataset may be downloaded; otherwise it must be in the hub's local cache already.

    Raises:
        LikenessError: there is no such dataset, or there are no Parquet shards in it.
    """
    if source == "pocket10k":
        from pocket.render.dataset import pocket10k

        folder = pocket10k(cache_folder(cache_dir))
    elif Path(source).expanduser().is_dir():
        folder = Path(source).expanduser()
    else:
        folder = hub_folder(source, download, ["*.parquet"])
    shards = sorted(path for path in folder.rglob("*.parquet") if not _hidden(path.relative_to(folder)))
    if not shards and (folder / TABLE).is_file():
        return [dreambooth_shard(folder, cache_folder(cache_dir))]
    if not shards:
        raise LikenessError(
            f"{folder} holds no Parquet shards (*.parquet) and no {TABLE}: curate.py makes a dataset of photos"
        )
    return shards


def hub_folder(source: str, download: bool, patterns: Sequence[str]) -> Path:
    """The local copy of a dataset on the hub.

    Args:
        source: ``owner/name`` or ``owner/name@revision``.
        download: Whether it may be downloaded.
        patterns: Which of its files are wanted.

    Raises:
        LikenessError: this is no name of a dataset, there is no such dataset, or it is not here and may not be
            downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    hub = _HUB_NAME.fullmatch(source)
    if hub is None:
        raise LikenessError(
            f"dataset {source!r} is missing: it is neither `pocket10k`, nor a folder, nor a hub dataset `owner/name`"
        )
    name = hub["name"]
    try:
        folder = snapshot_download(
            name,
            repo_type="dataset",
            revision=hub["revision"],
            allow_patterns=list(patterns),
            local_files_only=not download,
        )
    except LocalEntryNotFoundError as error:
        how = "the hub cannot be reached" if download else "allow it to be downloaded with download=true"
        raise LikenessError(f"dataset {name!r} is neither a folder nor in the hub's local cache; {how}") from error
    except (HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise LikenessError(f"dataset {name!r} cannot be downloaded: {str(error).strip().splitlines()[0]}") from error
    return Path(folder)


def _hidden(path: Path) -> bool:
    """Whether a file or a folder above it is hidden: what is not finished, and what systems keep for themselves."""
    return any(part.startswith(".") for part in path.parts)

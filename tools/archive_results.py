"""Pack a results folder into one small file, which makes all its tables again.

python -m tools.archive_results pack results/pocket pocket.tar.xz
python -m tools.archive_results unpack pocket.tar.xz results/shipped
python evaluate.py --stage report --output results/shipped

Images are left out but for the page's thumbnails, and so are feature vectors: of what the report makes from these its
sums by subject are packed, so that every table is the same to the byte.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from contracts.commands import as_command
from contracts.lock import folder_lock
from leaderboard.report.packing import packed_files
from leaderboard.results.archive import unpack, write_archive
from leaderboard.results.folder import Results


def pack(folder: str | Path, file: str | Path) -> int:
    """Pack the results in ``folder`` and return the size of ``file`` in bytes.

    Raises:
        LikenessError: the folder holds no complete results, or the file cannot be written.
    """
    results = Results(folder)
    results.protocol()
    with folder_lock(results.root):
        return write_archive(Path(file), packed_files(results))


@as_command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.archive_results", description=(__doc__ or "").splitlines()[0]
    )
    ways = parser.add_subparsers(dest="way", required=True)
    into = ways.add_parser("pack", help="make one file of a results folder")
    into.add_argument("folder", help="results folder with a finished evaluation")
    into.add_argument("file", help="the .tar.xz to write")
    out = ways.add_parser("unpack", help="make a results folder of such a file")
    out.add_argument("file", help="the .tar.xz to read")
    out.add_argument("folder", help="folder to make")
    given = parser.parse_args(arguments)
    if given.way == "pack":
        print(f"{given.file}: {pack(given.folder, given.file):,} bytes")
    else:
        print(f"{given.folder}: {unpack(Path(given.file), Path(given.folder))} files")
        print(f"all tables: python evaluate.py --stage report --output {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

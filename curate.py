"""Make a dataset of a folder of photos: one folder per subject, or a metadata.csv / metadata.jsonl that names files.

python curate.py photos data/mine --faces packs/buffalo_l --source "our studio" --licence internal --consent signed
python curate.py things data/things --objects --noun toy --source ... --licence ... --consent "no people"
python curate.py owner/name data/set --download --faces packs/buffalo_l --source ... --licence ... --consent ...

Photos are JPEG, PNG, WebP, and HEIC where pillow-heif is installed. Beside NAME.jpg may lie NAME.txt with the caption
and NAME_mask.png with the mask. Metadata may have the columns file_name, mask_file_name, subject_id, subject_class,
subject_text, caption (or text), split, role, has_face, background_text, source, licence, consent.

A subject's id is the name of its folder in a-z, 0-9, _ and -; a name in other letters has a hash behind it. The split
depends on the id and the seed only, so more subjects move nobody.

In OUT lie the shards in data/, and report.html: what was dropped and why, and what the dataset is good for. A photo
that cannot be used stops nothing. The same command goes on where it was stopped; with more photos it does what is new.
"""

import os
import signal
import sys
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from contracts.early_check import check_files
from contracts.errors import STOPPED, LikenessError, report_fault
from contracts.streams import outlive_readers, say_stopped, speak_utf8
from contracts.suggestions import with_suggestion
from curation.settings import CurationSettings

# Spinning OpenMP threads cost small machines twenty times the work; read when torch is imported, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SWITCHES = {
    "objects": "the subjects are things or animals: no face is looked for",
    "test_only": "all subjects are test subjects: a set to evaluate on",
    "download": "a dataset of the hub may be downloaded",
}
"""Options that need no value."""


def make_parser() -> ArgumentParser:
    """The command line; everything but the two folders can be given in a YAML file too."""
    parser = ArgumentParser(
        prog="curate.py",
        description=__doc__,
        parser_mode="omegaconf+",
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("photos", type=str, help="folder of photos, or a dataset of the hub as owner/name")
    parser.add_argument("out", type=str, help="folder to write, gone on with if it exists")
    parser.add_argument("--config", action="config", help="YAML file with what follows")
    parser.add_class_arguments(CurationSettings, skip=set(SWITCHES))
    for name, text in SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user, or 130 where it
    was stopped."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = make_parser()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a queue's way to say stop
    try:
        check_files(arguments)
        values = parser.parse_args(arguments).as_dict()
        photos, out = values.pop("photos"), values.pop("out")
        values.pop("config", None)
        settings = CurationSettings(**values)
        from curation.build import curate

        report = curate(photos, out, settings)
    except (ArgumentError, LikenessError) as error:
        known = [action.dest for action in parser._actions]
        print(f"error: {with_suggestion(str(error), known)}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a folder that may not be written to
        print(f"error: {error}: what is done is kept, the same command goes on from here", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say_stopped()
        return STOPPED
    except Exception:
        return report_fault()
    finally:
        signal.signal(signal.SIGTERM, before)
    print("\n".join(report.lines()))
    if not report.kept:
        print(f"error: no photo is left to make a dataset of: see {out}/report.html", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    speak_utf8()
    outlive_readers()
    sys.exit(main())

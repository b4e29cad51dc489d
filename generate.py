"""Generate images of whoever is in your photos, with any trained method.

python generate.py --run runs/spotdiff --photo me.jpg --prompts "a photo of a <subject> as an astronaut" --output out
python generate.py --run runs/spotdiff runs/pidiff --photo me.jpg dog=rex/ --prompts configs/prompts/people.yaml ...
python generate.py --run runs/spotdiff --dataset data/mine --subject anna --prompts "a <subject> on a beach" ...
python generate.py --run runs/ip_adapter --photo me.jpg you.jpg --prompts "a <subject> and a <subject> on a beach" ...
"""

import os
import sys
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from contracts.errors import SAVED, STOPPED, LikenessError, report_fault
from contracts.method_modules import MethodsOption, import_methods, methods_of
from contracts.settings import GenerationSettings
from contracts.streams import outlive_readers, say_stopped, speak_utf8
from contracts.suggestions import with_suggestion

# Spinning OpenMP threads cost small machines twenty times the work; read when torch is imported, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        prog="generate.py",
        description=__doc__,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=str, nargs="+", required=True, help="run folders, each as FOLDER or LABEL=FOLDER")
    parser.add_argument(
        "--photo",
        type=str,
        nargs="+",
        default=[],
        metavar="[NOUN=]PHOTO",
        help="photos, each of one subject, or folders with several photos of one; NOUN is the class, else person",
    )
    parser.add_argument("--subject", type=str, nargs="+", default=[], help="subjects of --dataset by name")
    parser.add_argument("--dataset", type=str, default="pocket10k", help="pocket10k, a folder or a hub data set")
    parser.add_argument(
        "--prompts",
        type=str,
        nargs="+",
        required=True,
        help="texts with <subject> in them, twice for two subjects in an image, or prompt sets (FILE.yaml)",
    )
    parser.add_argument("--output", type=str, required=True, help="folder for the images; what is there stays")
    parser.add_argument("--methods", action=MethodsOption)
    parser.add_class_arguments(GenerationSettings, skip={"compile", "arguments"})
    parser.add_argument(
        "--compile", type=bool, nargs="?", const=True, default=False, help="compile the base model's repeated blocks"
    )
    parser.add_argument(
        "--set",
        type=str,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="other arguments of the method than the run's own, such as keep_pose=1.0 of SpotDiff",
    )
    return parser


def changed_arguments(given: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` says, values as in YAML; raises ``LikenessError`` for a word of another form."""
    changed = {}
    for word in given:
        name, equals, value = word.partition("=")
        try:
            changed[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not (name.isidentifier() and equals):
            raise LikenessError(f"--set {word!r}: give NAME=VALUE, such as scale=0.5")
    return changed


def run(given: Namespace) -> int:
    """Do what the arguments ask for and return the exit code. Heavy imports wait until here."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from leaderboard.generate.own_photos import generate_images

    plain = {field.name: given[field.name] for field in fields(GenerationSettings) if field.name != "arguments"}
    settings = GenerationSettings(**plain, arguments=changed_arguments(given.set))
    try:
        images = generate_images(
            given.run, given.prompts, given.output, given.photo, given.subject, given.dataset, settings
        )
    except SIGTERMException:
        say_stopped("the enrolment is saved")
        return SAVED
    print(f"{len(images)} images in {given.output}, side by side in {given.output}/contact_sheet.png")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user, or 143 where it
    was told to stop while it enrolled, or 130 after Ctrl-C at another time."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = make_parser()
    try:
        given = parser.parse_args(arguments)
        import_methods(methods_of(arguments))
        return run(given)
    except (ArgumentError, LikenessError) as error:
        known = ["methods", *(action.dest for action in parser._actions)]
        print(f"error: {with_suggestion(str(error), known)}", file=sys.stderr)
    except OSError as error:  # the output cannot be written, or the disk is full
        if error.errno is None:
            return report_fault()
        print(f"error: {error.filename or given.output}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        say_stopped()
        return STOPPED
    except Exception:
        return report_fault()
    return 2


if __name__ == "__main__":
    speak_utf8()
    outlive_readers()
    sys.exit(main())

"""Put one subject of a run that optimised it into a file that others can use.

python -m tools.export_subject --run runs/textual_inversion --subject s0225 --output s0225.safetensors

Vectors with one stage whose key is its value become a textual-inversion embedding, other vectors a file of our own (see
``networks/subject_file.py``), LoRA weights what ``pipe.load_lora_weights`` reads (see ``networks/subject_lora.py``).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from contracts.commands import as_command
from contracts.errors import LikenessError
from leaderboard.results.trained_photos import trained_on
from lightning_modules.dreambooth_lora import DreamBoothLoRA, called
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.run import Run
from lightning_modules.sefi_ide import SefiIDE
from lightning_modules.token_vectors import TokenVectorModule
from networks.subject_file import SubjectFile
from networks.subject_lora import save_lora
from networks.subject_tensors import missing_subjects


def export_subject(run: str | Path, subject: str, output: str | Path) -> str:
    """Write the file and return how to use it.

    Raises :class:`LikenessError` when the run is of a method that keeps nothing per subject, lacks the subject, or has
    values of the plain prompt.
    """
    found = Run(run)
    module = found.load()
    if isinstance(module, PerSubjectModule) and subject not in module.subjects.known:
        raise LikenessError(missing_subjects([subject], module.subjects.known, str(run)))
    if isinstance(module, SefiIDE) and module.values_behind == "plain":
        raise LikenessError(
            f"{str(run)!r} was trained with model.values_behind plain: its subjects cannot be exported, they need "
            "the plain prompt beside the vectors"
        )
    if isinstance(module, TokenVectorModule):
        return _export_vectors(module, subject, Path(output))
    if isinstance(module, DreamBoothLoRA):
        return _export_lora(module, subject, Path(output), trained_on(found.manifest, found.manifest_file).get(subject))
    raise LikenessError(f"{str(run)!r} is a run of {type(module).__name__}, which keeps nothing per subject to export")


def _export_vectors(module: TokenVectorModule, subject: str, output: Path) -> str:
    vectors, noun = module.scaled(subject), module.subjects.nouns[subject]
    file = SubjectFile(subject, noun, vectors, module.noun_embedding(noun), tuple(module.backbone.text.widths))
    file.save(output)
    if file.is_embedding and len(file.widths) > 1:
        return (
            f'learnt = safetensors.torch.load_file("{output}"); '
            f'pipe.load_textual_inversion(learnt["clip_l"], token="<{subject}>"); '
            f'pipe.load_textual_inversion(learnt["clip_g"], token="<{subject}>", text_encoder=pipe.text_encoder_2, '
            f"tokenizer=pipe.tokenizer_2), then write <{subject}> in a prompt"
        )
    if file.is_embedding:
        return f'pipe.load_textual_inversion("{output}"), then write <{subject}> in a prompt'
    return f'with networks.stage_pipeline.stage_prompt(pipe, "a photo of a <subject>", {{"subject": "{output}"}})'


def _export_lora(module: DreamBoothLoRA, subject: str, output: Path, photos: Sequence[str] | None) -> str:
    """``photos`` are the hashes of what it was learnt from, where the run says it."""
    noun = module.subjects.nouns[subject]
    about = {"subject": subject, "noun": noun, "identifier": module.identifier}
    about |= {"photos": json.dumps(list(photos))} if photos else {}
    strength = module.scaling * module.scale
    save_lora(output, module.subjects[subject], strength, {**about, "backbone": module.backbone.fingerprint})
    return f'pipe.load_lora_weights("{output}"), then write "{called(module.identifier, noun)}" in a prompt'


@as_command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user."""
    parser = argparse.ArgumentParser(prog="python -m tools.export_subject", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, help="run folder of a method that optimises per subject")
    parser.add_argument("--subject", required=True, help="a subject that the run has enrolled")
    parser.add_argument("--output", required=True, help="the safetensors file to write")
    given = parser.parse_args(arguments)
    print(f"{given.output}: {export_subject(given.run, given.subject, given.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

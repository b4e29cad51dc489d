"""Vectors of denoising stages in a stock ``StableDiffusionPipeline``.

    with stage_prompt(pipe, "a photo of a <subject> on a beach", {"subject": "s0225.safetensors"}) as prompt:
        images = pipe(**prompt, num_inference_steps=30).images

Schedulers, guidance and seeds are the pipeline's own. A fine-tuned UNet may take the place of the one that the subject
was learnt with. Inside the block the pipeline generates images for this prompt only. After the block the pipeline is as
it was before.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from contracts.conditioning import Conditioning, StepConditioning
from contracts.errors import LikenessError
from networks.placeholders import encode_placed, place_subjects, single_token
from networks.stage_attention import install_stage_attention
from networks.subject_file import SubjectFile, read_subject_file, same_embedding


@contextmanager
def stage_prompt(
    pipe: StableDiffusionPipeline, prompt: str, subjects: Mapping[str, str | Path], negative: str = ""
) -> Iterator[dict[str, Tensor]]:
    """Yields the arguments to call ``pipe`` with. Inside the block its UNet reads the subjects' own keys and values at
    every denoising stage.

    ``subjects`` maps placeholders (``subject`` for ``<subject>``) to subject files; several may stand in one prompt.
    What is yielded is emptied when the block ends: outside of it the pipeline would read the text states without their
    denoising stages.

    Raises:
        LikenessError: a file is no subject file, was learnt for another text encoder, or has other denoising stages
            than the rest; two placeholders are one subject; a placeholder is missing, repeated or unknown; or, inside
            the block, the pipeline is called with another prompt.
    """
    if not subjects:
        raise LikenessError("stage_prompt got no subjects; give a file for each placeholder, as {'subject': FILE}")
    files = {placeholder: read_subject_file(Path(path)) for placeholder, path in subjects.items()}
    conditioning = _encode(pipe, prompt, files)
    empty, _ = pipe.encode_prompt(negative, pipe.unet.device, 1, do_classifier_free_guidance=False)
    given = {"prompt_embeds": conditioning.text_keys[:, 0], "negative_prompt_embeds": empty}
    ours = given["prompt_embeds"]

    def route(module: torch.nn.Module, arguments: tuple, more: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        states = more["encoder_hidden_states"]
        unguided = states[: len(states) // 2] if pipe.do_classifier_free_guidance else states[:0]
        guided = states[len(unguided) :]
        if not torch.equal(guided, ours.to(guided).expand(len(guided), -1, -1)):
            raise LikenessError(
                f"inside stage_prompt the pipeline generates {prompt!r} only: call it with what stage_prompt yields, "
                "and give other prompts outside the block"
            )
        step = conditioning.at(torch.as_tensor(arguments[1], device=states.device).reshape(1).long())
        keys, values = (
            torch.cat([unguided, side.to(states.dtype).expand(len(guided), -1, -1)])
            for side in (step.text_keys, step.text_values)
        )
        read = {"conditioning": StepConditioning(keys, values, None, None)}
        return arguments, {**more, "cross_attention_kwargs": read}

    before = dict(pipe.unet.attn_processors)
    install_stage_attention(pipe.unet)
    handle = pipe.unet.register_forward_pre_hook(route, with_kwargs=True)
    try:
        yield given
    finally:
        given.clear()
        handle.remove()
        pipe.unet.set_attn_processor(before)


@torch.no_grad()
def _encode(pipe: StableDiffusionPipeline, prompt: str, files: Mapping[str, SubjectFile]) -> Conditioning:
    """Text states of every denoising stage, for one image."""
    for (first, one), (second, other) in combinations(files.items(), 2):
        if one.name == other.name and torch.equal(one.vectors, other.vectors):
            raise LikenessError(f"<{first}> and <{second}> are one subject, {one.name!r}: one placeholder is allowed")
    embeddings = pipe.text_encoder.get_input_embeddings().weight
    for file in files.values():
        token = single_token(pipe.tokenizer, file.noun)
        if not same_embedding(embeddings[token].cpu(), file.noun_embedding):
            raise LikenessError(f"subject {file.name!r} was learnt for another text encoder than this pipeline's")
    shapes = {tuple(file.vectors.shape) for file in files.values()}
    if len(shapes) > 1:
        raise LikenessError(f"the subjects of one prompt must have the same stages and tokens: {sorted(shapes)}")
    stages, sides, tokens, _ = shapes.pop()
    placed = place_subjects(pipe.tokenizer, prompt, {name: file.noun for name, file in files.items()}, tokens)
    vectors = torch.cat([files[name].vectors for name in placed.positions], dim=2).to(embeddings)
    ids = placed.ids.to(embeddings.device).expand(stages * sides, -1)
    positions = torch.tensor(placed.every_position, device=ids.device).expand(len(ids), -1)
    states = encode_placed(pipe.text_encoder, ids, positions, vectors.flatten(0, 1)).unflatten(0, (stages, sides))
    return Conditioning(states[None, :, 0], states[None, :, -1])

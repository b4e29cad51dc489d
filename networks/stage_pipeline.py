"""Vectors of denoising stages in a stock ``StableDiffusionPipeline`` or ``StableDiffusionXLPipeline``.

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
from typing import Any, TypeAlias

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from contracts.conditioning import Conditioning, StepConditioning
from contracts.errors import LikenessError
from networks.placeholders import place_subjects, single_token
from networks.stage_attention import install_stage_attention
from networks.subject_file import SubjectFile, read_subject_file, same_embedding
from networks.text_encoders import TextEncoders

Pipeline: TypeAlias = StableDiffusionPipeline | StableDiffusionXLPipeline


@contextmanager
def stage_prompt(
    pipe: Pipeline, prompt: str, subjects: Mapping[str, str | Path], negative: str = ""
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
    given = {"prompt_embeds": conditioning.text_keys[:, 0], **_negative(pipe, negative)}
    if conditioning.pooled is not None:
        given["pooled_prompt_embeds"] = conditioning.pooled[:, 0]
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
        if step.pooled is not None:
            added = more["added_cond_kwargs"]
            pooled = step.pooled.to(states.dtype).expand(len(guided), -1)
            text = torch.cat([added["text_embeds"][: len(unguided)], pooled])
            more = {**more, "added_cond_kwargs": {**added, "text_embeds": text}}
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
def _negative(pipe: Pipeline, text: str) -> dict[str, Tensor]:
    """What stands for the unguided branch, as the pipeline itself encodes it."""
    if not isinstance(pipe, StableDiffusionXLPipeline):
        states, _ = pipe.encode_prompt(text, pipe.unet.device, 1, do_classifier_free_guidance=False)
        return {"negative_prompt_embeds": states}
    _, states, _, pooled = pipe.encode_prompt("", device=pipe.unet.device, negative_prompt=text or None)
    return {"negative_prompt_embeds": states, "negative_pooled_prompt_embeds": pooled}


def _text_encoders(pipe: Pipeline) -> TextEncoders:
    if not isinstance(pipe, StableDiffusionXLPipeline):
        return TextEncoders([pipe.text_encoder], [pipe.tokenizer])
    return TextEncoders([pipe.text_encoder, pipe.text_encoder_2], [pipe.tokenizer, pipe.tokenizer_2])


@torch.no_grad()
def _encode(pipe: Pipeline, prompt: str, files: Mapping[str, SubjectFile]) -> Conditioning:
    """Text states of every denoising stage, for one image."""
    for (first, one), (second, other) in combinations(files.items(), 2):
        if one.name == other.name and torch.equal(one.vectors, other.vectors):
            raise LikenessError(f"<{first}> and <{second}> are one subject, {one.name!r}: one placeholder is allowed")
    encoders = _text_encoders(pipe)
    for file in files.values():
        embedding = encoders.embedding(single_token(encoders.tokenizer, file.noun))
        if not same_embedding(embedding.cpu(), file.noun_embedding):
            raise LikenessError(f"subject {file.name!r} was learnt for another text encoder than this pipeline's")
    shapes = {tuple(file.vectors.shape) for file in files.values()}
    if len(shapes) > 1:
        raise LikenessError(f"the subjects of one prompt must have the same stages and tokens: {sorted(shapes)}")
    stages, sides, tokens, _ = shapes.pop()
    placed = place_subjects(encoders.tokenizer, prompt, {name: file.noun for name, file in files.items()}, tokens)
    vectors = torch.cat([files[name].vectors for name in placed.positions], dim=2).to(embedding)
    ids = placed.ids.to(encoders.device).expand(stages * sides, -1)
    positions = torch.tensor(placed.every_position, device=ids.device).expand(len(ids), -1)
    text = encoders.encode_placed(ids, positions, vectors.flatten(0, 1))
    return Conditioning.from_stages([text[::sides]], text[sides - 1 :: sides].states[None])

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.errors import LikenessError
from leaderboard.protocol import Prompt, Protocol, plain_prompt, read_prompts
from pocket.captions import caption
from pocket.factors import draw_shot, draw_subject

POCKET = "leaderboard/prompts/pocket.yaml"


def make_protocol(**changes: object) -> Protocol:
    protocol = Protocol(
        subjects={"s1": "person", "s2": "person"},
        prompts=(Prompt("beach", "scene", "a photo of a <subject>, on a beach"), Prompt("hat", "mix", "a <subject>")),
        samples=2,
        sampler="ddim",
        steps=3,
        guidance=3.0,
        resolution=64,
        seed=0,
        backbone="b" * 64,
        photos="c" * 64,
        metrics={"clip_t": "clip_t@x"},
    )
    return replace(protocol, **changes)


def test_requests_are_the_whole_grid_once() -> None:
    requests = make_protocol().requests
    assert len(requests) == 2 * 2 * 2
    assert len({request.id for request in requests}) == len(requests)
    assert requests[0].id == "s1.beach.00"


@pytest.mark.parametrize("change", [{"steps": 4}, {"guidance": 3.5}, {"seed": 1}, {"metrics": {"clip_t": "other"}}])
def test_everything_that_decides_an_image_or_a_score_is_in_the_hash(change: dict) -> None:
    assert make_protocol(**change).hash != make_protocol().hash


def test_json_and_back_keeps_the_hash() -> None:
    protocol = make_protocol()
    again = Protocol.from_json(json.loads(json.dumps(protocol.to_json())))
    assert again == protocol and again.hash == protocol.hash


def test_a_protocol_changed_by_hand_is_refused() -> None:
    with pytest.raises(LikenessError, match="changed by hand"):
        Protocol.from_json({**make_protocol().to_json(), "steps": 50})


def test_a_protocol_of_another_version_is_refused() -> None:
    with pytest.raises(LikenessError, match="another version"):
        Protocol.from_json({**make_protocol().to_json(), "colour": "red"})


def test_the_judge_reads_the_class_noun_and_no_double_spaces() -> None:
    assert plain_prompt("a  photo of a <subject> , smiling", "person") == "a photo of a person , smiling"


def test_pocket_prompts_use_the_words_of_the_captions() -> None:
    words: set[str] = set()
    for i in range(600):
        words |= set(re.findall(r"\w+", caption(draw_subject(str(i)), draw_shot(str(i)), str(i), detail=1.0)))
    prompts = read_prompts(POCKET)
    assert len(prompts) == 8
    for prompt in prompts:
        assert set(re.findall(r"\w+", plain_prompt(prompt.text, "person"))) <= words, prompt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompts: []", "no list `prompts`"),
        ("prompts: [{id: a, class: scene}]", "prompt 0 must have exactly id, class and text"),
        ("prompts: [{id: A/b, class: scene, text: a <subject>}]", "prompt id 'A/b'"),
        ("prompts: [{id: a, class: place, text: a <subject>}]", "class 'place' of a"),
        ("prompts: [{id: a, class: scene, text: a person}]", "must hold <subject> once"),
        ("prompts: [{id: a, class: mix, text: <subject>}, {id: a, class: mix, text: <subject>}]", "twice: a"),
        ("prompts: [", "is no YAML"),
    ],
)
def test_a_bad_prompt_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    with pytest.raises(LikenessError, match=re.escape(message)) as error:
        read_prompts(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_prompt_file_names_its_key() -> None:
    with pytest.raises(LikenessError, match=r"protocol\.prompts"):
        read_prompts("nowhere.yaml")

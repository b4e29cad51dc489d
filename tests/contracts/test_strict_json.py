import pytest

from contracts.strict_json import NoNumber, parse


def test_what_json_knows_is_read() -> None:
    assert parse(' {"a": [1, -2.5e3, null, true, "NaN"]} ') == {"a": [1, -2500.0, None, True, "NaN"]}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(NoNumber, match=f"^{text}$"):
        parse(f'{{"a": {text}}}')


@pytest.mark.parametrize("text", ["", "{", "{} {}"])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Extra"):
        parse(text)

"""Lists of token directories: weights are repetitions, names keep equal keys apart."""

import pickle

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_core.tokens import check_keys_apart, open_token_sources, open_tokens, places_of_keys, token_digests


@pytest.fixture(name="both")
def both_fixture(tmp_path, samples, tokens):
    """Two token directories with equal keys, the second one twice in tokens.yaml."""
    tokens(tmp_path / "a", samples(5)), tokens(tmp_path / "b", samples(8)[2:5])
    (tmp_path / "tokens.yaml").write_text("sources: [{data: a}, {data: b, weight: 2}]")
    return tmp_path


def test_weights_repeat_and_names_go_before_keys(both):
    reader = open_token_sources([both / "tokens.yaml"])
    assert len(reader) == 5 + 2 * 3
    plain = open_tokens(both / "a", both / "b", both / "b")
    everything = np.arange(11)
    np.testing.assert_array_equal(reader.codes(everything)[0], plain.codes(everything)[0])
    keys = plain.keys(everything)
    assert reader.keys(everything) == [f"a/{key}" for key in keys[:5]] + [f"b/{key}" for key in keys[5:]]
    assert places_of_keys(reader)[f"b/{keys[6]}"] == [6, 9]
    assert pickle.loads(pickle.dumps(reader)).keys(everything) == reader.keys(everything)


def test_equal_keys_of_different_directories_are_refused_without_names(both):
    with pytest.raises(InputError, match="joined by key; list both"):
        check_keys_apart(open_tokens(both / "a", both / "b"))
    check_keys_apart(open_tokens(both / "a", both / "a"))
    check_keys_apart(open_token_sources([both / "tokens.yaml"]))


def test_names_and_weights_are_part_of_the_digest(both):
    found = []
    for text in ("[{data: a}, {data: b, weight: 2}]", "[{data: a}, {data: b}]", "[{data: a}, {data: b, name: c}]"):
        (both / "tokens.yaml").write_text(f"sources: {text}")
        found.append(token_digests(open_token_sources([both / "tokens.yaml"])))
    assert len({str(one) for one in found}) == 3
    plain = token_digests(open_token_sources([both / "a"]))
    assert list(plain) == ["tokens 0"]


def test_columns_in_a_list_of_tokens_are_refused(both):
    (both / "tokens.yaml").write_text("sources: [{data: a, caption_column: text}]")
    with pytest.raises(InputError, match="expected the path of a token directory"):
        open_token_sources([both / "tokens.yaml"])

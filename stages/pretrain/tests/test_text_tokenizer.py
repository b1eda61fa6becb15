"""Words that a learned vocabulary does not contain."""

from lavit_pretrain.text_tokenizer import train_text_tokenizer, unknown_words
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def test_words_outside_the_vocabulary_are_named():
    tokenizer = train_text_tokenizer(["a red circle above a blue square"] * 3, 4096)
    assert unknown_words(tokenizer, "red dinosaur, a blue quokka; square") == ["dinosaur", "quokka"]
    assert unknown_words(tokenizer, "") == []
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    other = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="[UNK]")
    assert unknown_words(other, "red sofa") == ["sofa"]

"""A small tokenizer and what it reads."""

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pock_tvm.artifact.sample_form import SampleForm, TensorForm

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "very", "a")
LENGTH = 6


def write_tokenizer(path, *, pad="[PAD]"):
    words = [pad, *WORDS[1:]]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(path))
    return path


def form(*names, classes=2, limit=9, dtype="int64"):
    names = names or ("input_ids", "attention_mask")
    inputs = [
        TensorForm(
            name=name, dtype=dtype, shape=(LENGTH,), limit=limit if name == "input_ids" else None
        )
        for name in names
    ]
    label = TensorForm(name="labels", dtype="int32", shape=(), limit=classes, ignore=-100)
    return SampleForm(inputs=tuple(inputs), label=label, batch=2)

"""The reader's tokenizer and its fixed ids.

A byte-level BPE *object* without merges: a pre-token that is in the vocabulary is one token, any other is spelled
byte by byte, so that every text has an encoding and comes back unchanged. A word takes its trailing space with it
(``code␣``), which spells a key in the context exactly as in the question, whatever stands before it.
"""

from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from flowmm.reader.vocabulary import SPECIALS, WORDS

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'assistant' %}<|im_start|>{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}<|endoftext|>{% else %}<|im_end|>{% endif %}"
    "{% endfor %}"
)

_PRETOKENS = r"[:,.?] ?|[A-Za-z]+ ?|\d|[^\sA-Za-z\d]|\s"
_SPACE = "Ġ"  # how the byte-level alphabet writes a space


@cache
def tokenizer() -> Tokenizer:
    """The tokenizer; the same object at each call."""
    tokens = list(SPECIALS) + sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens += [mark + _SPACE for mark in ":,.?"]
    tokens += [form for word in sorted(WORDS) for form in (word, word + _SPACE)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    result = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    split = pre_tokenizers.Split(Regex(_PRETOKENS), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    result.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    return result


END, TURN_START, TURN_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = range(len(SPECIALS))

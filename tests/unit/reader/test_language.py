from random import Random

from flowmm.reader import language
from flowmm.reader.language import Fact


def test_keys_of_a_context_differ():
    keys = language.draw_keys(Random(0), 60, held_out=False, near=0.8)
    assert len(set(keys)) == len(keys) == 60


def test_training_never_draws_a_held_out_key():
    trained = language.draw_keys(Random(1), 2000, held_out=False, near=0.3)
    unseen = language.draw_keys(Random(1), 300, held_out=True, near=0.3)
    assert not any(language.is_held_out(key) for key in trained)
    assert all(language.is_held_out(key) for key in unseen)


def test_keys_are_one_or_two_capitalised_words_of_three_to_ten_letters():
    for key in language.draw_keys(Random(2), 500, held_out=False):
        words = key.split(" ")
        assert 1 <= len(words) <= 2
        assert all(w.isalpha() and w == w.capitalize() and 3 <= len(w) <= 10 for w in words)


def test_values_are_two_to_eight_capitals_or_digits():
    values = [language.draw_value(Random(seed)) for seed in range(500)]
    assert all(2 <= len(v) <= 8 and v.isalnum() and v == v.upper() for v in values)
    assert sum(v.isdigit() for v in values) > 250


def test_a_statement_ends_with_the_value():
    fact = Fact("Lufe North", "K7Q2")
    for seed in range(40):
        assert language.state(Random(seed), fact, line=False).endswith(" K7Q2.")


def test_a_strange_sentence_never_reads_as_a_fact():
    rng = Random(3)
    for _ in range(2000):
        text = language.strange_sentence(rng)
        assert "\n" not in text
        assert not any(word.endswith(":") and word[0].isupper() for word in text.split(" ")[:-1][1:])

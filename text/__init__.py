"""Text: lyrics files, spelling to words, words to phonemes, syllables."""

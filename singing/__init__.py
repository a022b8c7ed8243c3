"""Singing: from a request to a topline: open, melody, voice, inpaint, mix, write."""

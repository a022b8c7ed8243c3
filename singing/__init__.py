"""Singing: from a request to a topline: open, melody, voice, place, inpaint, mix, write."""

"""Transcription: singing in, phonemes and notes out."""

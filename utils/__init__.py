"""Utilities that know nothing of singing: audio, configuration, checkpoints, files, seeds."""

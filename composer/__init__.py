"""Composer: harmony and beats of an accompaniment, and melodies that fit them."""

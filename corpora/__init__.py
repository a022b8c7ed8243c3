"""Corpora: one small adaptor per layout, and the cache of features made of them."""

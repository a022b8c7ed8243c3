"""Evaluation: one file for each question, with judges, statistics and reports."""

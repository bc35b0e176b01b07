"""Evaluation of a run: metrics, baselines, comparisons, a look inside the model."""

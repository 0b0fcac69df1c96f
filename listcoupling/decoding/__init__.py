"""Drafter-invariant multi-draft speculative decoding."""

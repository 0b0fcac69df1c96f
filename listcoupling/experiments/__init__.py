"""Experiments of the papers: config in, table out."""

"""Flax models: a decoder-only language model and a beta-VAE."""

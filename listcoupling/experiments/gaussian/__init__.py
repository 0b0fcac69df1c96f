"""The Gaussian source of arXiv 2506.05632, section 5."""

"""Training loops: config and workdir in, checkpoint out."""

"""Real data from local files, TFDS or what every machine has."""

"""Speed, memory and compiled programs."""

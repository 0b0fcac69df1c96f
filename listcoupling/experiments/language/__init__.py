"""Tables 1 to 9 of arXiv 2506.05632: language models on prompts."""

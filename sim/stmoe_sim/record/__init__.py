"""Recording of routing traces: the project's own model, and Hugging Face models by hooks."""

"""Training of the project's own MoE language model: text, tokenizer, model, loop, evaluation."""

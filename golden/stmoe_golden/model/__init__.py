"""The small MoE language model: golden inference, quantisation, its file, its statistics."""

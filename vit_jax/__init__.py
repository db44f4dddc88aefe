"""Vision Transformers in JAX/Flax, from a laptop CPU to a multi-slice TPU pod."""

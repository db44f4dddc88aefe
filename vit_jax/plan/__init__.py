"""What a configuration costs on a TPU slice, without the slice: `vit_jax plan`."""

"""Preprocessing on the host, as TensorFlow ops; the module is handed in as `tf`."""

"""From a decoded image to the model's input.

`placement` decides what is done where: `host` holds TensorFlow ops, `device` what
happens inside the jitted step.
"""

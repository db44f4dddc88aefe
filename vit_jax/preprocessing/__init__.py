"""From a decoded image to the model's input.

`placement` decides what is done where: `host` holds TensorFlow ops, `device` what
happens inside the jitted step.

A new augmentation is a setting of `PreprocessSection` that is off by default, a file
in `host` or `device`, its row in `placement.OPERATIONS`, and its call at its place in
the order: in `host.ops.make_prepare` or in `device.augment.train_images`.
"""

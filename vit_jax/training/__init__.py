"""One training: its settings compiled into a job, the step, and the loop around it."""

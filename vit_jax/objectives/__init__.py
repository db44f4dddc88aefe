"""What a training minimises, and how it is measured."""

"""Images: where they come from, how they are cropped, in which order they are read."""

"""What a GPU does, in one command."""

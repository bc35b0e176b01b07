"""Time and memory, beside other libraries and as the work grows."""

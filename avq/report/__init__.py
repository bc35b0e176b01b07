"""Page, model card and charts of an evaluation, from its results alone."""

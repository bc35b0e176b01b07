"""What a trained model is for: codes of images, files and shards of them, releases."""

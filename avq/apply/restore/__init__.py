"""Restoring images by a trained model: noise, low resolution, anomalies, holes."""

"""Data sets and runs on object storage (`s3://`, `gs://`), through fsspec."""

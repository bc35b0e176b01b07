"""`python -m avq.cli`: the `avq` command where its script is not on the path."""

from avq.cli import app

if __name__ == "__main__":
    app()

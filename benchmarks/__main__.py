"""Prints the table of all benchmarks, which README.md keeps."""

from pathlib import Path

README = Path(__file__).with_name("README.md")

if __name__ == "__main__":
    print(*(line for line in README.read_text().splitlines() if line.startswith("|")), sep="\n")

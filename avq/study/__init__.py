"""Studies: systems x data x seeds, trained and measured alike, their table and their plots."""

from avq.study.definition import Study

__all__ = ["Study"]

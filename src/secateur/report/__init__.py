"""The report: one page that shows what compression did, and the same as Markdown, JSON, CSV and reStructuredText."""

from secateur.report.collect import collect
from secateur.report.content import Content
from secateur.report.frontier_chart import write_frontier_chart
from secateur.report.sensitivity_chart import write_sensitivity_chart
from secateur.report.table import Column, Table
from secateur.report.write import render, write_report

__all__ = [
    "Column",
    "Content",
    "Table",
    "collect",
    "render",
    "write_frontier_chart",
    "write_report",
    "write_sensitivity_chart",
]

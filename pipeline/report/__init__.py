"""The report: one self-contained HTML file about a run, and the pages that compare runs.

    make report PROFILE=pocket

Everything is read from the run folder, finished or not. Tables and pictures are HTML and SVG made by Jinja2 templates
here; curves are drawn in the page by uPlot (vendor/, 50 kB; Plotly's bundle is ninety times that). Nothing in the page
loads anything from elsewhere, and what models wrote is only ever shown as text.
"""

from pipeline.report.page import write_report
from pipeline.report.records import RunRecord

__all__ = ["RunRecord", "write_report"]

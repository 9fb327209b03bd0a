"""A report about evaluations: one self-contained HTML page, and its figures as SVG and PNG."""

from hrnet_jax.evaluation.report.page import write_report

__all__ = ["write_report"]

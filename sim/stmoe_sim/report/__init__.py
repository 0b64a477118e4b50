"""What a replay is reported as: JSON for machines, tables and a page for people."""

from .files import write_json, write_text
from .page import render_page
from .terminal import print_report

__all__ = ["print_report", "render_page", "write_json", "write_text"]

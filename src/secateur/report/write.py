"""Writing the report into the run folder: page, Markdown, raw numbers, tables; each file whole or absent."""

import json
from importlib import metadata
from pathlib import Path

from secateur.files import write_text
from secateur.pipeline.record import load_record
from secateur.report.collect import collect
from secateur.report.collect_file import collect_file, is_file_job
from secateur.report.content import Content
from secateur.report.html import render_html
from secateur.report.markdown import render_markdown
from secateur.report.raw import raw
from secateur.report.sections import sections

TABLES_FOLDER = "tables"


def write_report(folder: Path | str, title: str | None = None) -> list[Path]:
    """Write report.html, report.md, report.json and tables/ of a run, or of a job on an ONNX file; the paths written,
    the page first.

    The same run gives the same bytes, so a report that was interrupted is simply written again. Without a title that
    of the recipe's report stage is used, or model and data.

    raises    ArtifactError  when the folder is no run or a result in it is damaged
              DiskError      when a file cannot be written
    """
    folder = Path(folder)
    content = collect_file(folder, title) if is_file_job(folder) else collect(load_record(folder), title)
    files = {folder / name: text for name, text in render(content).items()}
    for path, text in files.items():
        write_text(path, text)
    return list(files)


def render(content: Content) -> dict[str, str]:
    """Name -> text of every file of the report."""
    version = metadata.version("secateur")
    shown = sections(content)
    files = {
        "report.html": render_html(content, shown, version),
        "report.md": render_markdown(content, shown, version),
        "report.json": json.dumps(raw(content, version), indent=2, allow_nan=False) + "\n",
    }
    for section in shown:
        for table in section.tables:
            files[f"{TABLES_FOLDER}/{table.name}.csv"] = table.to_csv()
            files[f"{TABLES_FOLDER}/{table.name}.rst"] = table.to_rst()
    return files

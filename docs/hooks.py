"""MkDocs hook: every decision stands in the navigation, so that a new one needs no other change."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    folder = Path(config.docs_dir) / "decisions"
    pages = [f"decisions/{path.name}" for path in sorted(folder.glob("[0-9]*.md"))]
    config.nav[-1] = {"Decisions": ["decisions/index.md", *pages]}
    return config

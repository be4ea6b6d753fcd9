"""A small project that works, for who begins."""

from pathlib import Path

CYCLE = """\
# A request to the webhook is answered on the same connection.
cycle: hello
connectors:
  visitor: {}
steps:
  asked:
    webhook: visitor
    fields:
      name: {type: text, required: true}
  answer:
    respond:
      body: {greeting: "Hello, {{ asked.name }}"}
"""
SETTINGS = """\
# How callers reach the server; status URLs begin with it.
# public_url = "https://hooks.example.com"
bind = "127.0.0.1:8080"
"""
README = """\
# A Cyclewright project

    cyclewright check .
    cyclewright serve .
    cyclewright hit hello/asked --json '{"name": "Ada"}'
"""
FILES = {"hello.cycle.yaml": CYCLE, "cyclewright.toml": SETTINGS, "README.md": README}


def scaffold(folder: Path) -> list[Path]:
    """Write the files of a new project; raises `FileExistsError` when one is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (folder / name).exists():
            raise FileExistsError(f"{folder / name} exists already: nothing was written")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return [folder / name for name in FILES]

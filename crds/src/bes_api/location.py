"""Where in a document something stands, as keys and indices, and how that is written for people."""

Location = tuple[str | int, ...]


def field_path(location: Location) -> str:
    """``("spec", "tasks", 2, "quality", "opt-1.3b")`` becomes ``spec.tasks[2].quality[opt-1.3b]``."""
    text = ""
    for part in location:
        if isinstance(part, int) or not part.isidentifier():
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text

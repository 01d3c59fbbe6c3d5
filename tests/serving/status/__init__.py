"""The status page, its JSON, its verdicts, and the commands that read it."""

"""Other tools' files as tables of gaia.yaml, with a list of what has no equivalent."""

"""Writes each document that is generated from the contracts: `python -m contracts`."""

from contracts.documents import REPOSITORY, documents, stale

if __name__ == "__main__":
    for name in stale():
        (REPOSITORY / name).unlink()
    for name, text in documents().items():
        (REPOSITORY / name).write_text(text, encoding="utf-8")

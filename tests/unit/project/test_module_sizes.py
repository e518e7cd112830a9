"""The size of a module is limited, so that a module has one subject."""

from tests.support.documents import files, text

#: Lines, with blank lines and comments.
LIMIT = 300


def test_every_module_is_within_the_limit_of_lines() -> None:
    lines = {str(module): len(text(module).splitlines()) for module in files(".py")}

    assert lines
    assert {module: number for module, number in lines.items() if number > LIMIT} == {}

import pathlib

SRC = pathlib.Path(__file__).parents[3] / "src"


def test_no_import_of_domain_and_application_hides_a_circle():
    files = [*(SRC / "domain").rglob("*.py"), *(SRC / "app").rglob("*.py")]
    assert [file.name for file in files if "TYPE_CHECKING" in file.read_text()] == []

import pathlib

SRC = pathlib.Path(__file__).parents[3] / "src"


def test_no_import_of_domain_and_application_hides_a_circle():
    files = [*(SRC / "domain").rglob("*.py"), *(SRC / "app").rglob("*.py")]
    assert [file.name for file in files if "TYPE_CHECKING" in file.read_text()] == []


def test_a_value_of_the_domain_is_changed_by_a_method_of_the_domain():
    """A misspelt field in `model_copy(update=…)` passes the type checker and pydantic."""
    files = [file for file in SRC.rglob("*.py") if not file.is_relative_to(SRC / "domain")]
    assert [str(file) for file in files if "model_copy(" in file.read_text()] == []

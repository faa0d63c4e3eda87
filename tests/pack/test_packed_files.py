"""What is in the packed charm, and what is not."""

import ast
import re
import struct
import zipfile

import pytest
import yaml

from pack.deployed import ROOT, distribution, imported
from packing import recipe

MACHINES = {"amd64": 62, "arm64": 183}


def names(file):
    return zipfile.ZipFile(file).namelist()


def test_the_file_has_what_juju_and_charmhub_read(packed):
    for architecture, file in (("amd64", packed.amd64), ("arm64", packed.arm64)):
        archive = zipfile.ZipFile(file)
        for name in ("metadata.yaml", "config.yaml", "LICENSE"):
            assert archive.read(name) == (ROOT / name).read_bytes()
        for name in ("actions.yaml", "icon.svg"):
            assert (name in archive.namelist()) == (ROOT / name).exists()
        manifest = yaml.safe_load(archive.read("manifest.yaml"))
        base = {"name": "ubuntu", "channel": "24.04", "architectures": [architecture]}
        assert manifest["bases"] == [base]


def test_tests_documentation_and_the_local_platform_are_left_out(packed):
    top = {name.split("/")[0] for name in names(packed.amd64)}
    assert top <= {
        *("LICENSE", "actions.yaml", "config.yaml", "dispatch", "icon.svg"),
        *("manifest.yaml", "metadata.yaml", "src", "templates", "venv"),
    }
    rooms = {"/".join(name.split("/")[:3]) for name in names(packed.amd64)}
    assert not rooms & {"src/adapters/local", "src/adapters/memory"}
    assert not [name for name in names(packed.amd64) if name.startswith("src/pooler/")]


def test_every_module_of_src_can_be_imported(unpacked, agent):
    files = [file.relative_to(unpacked / "src") for file in (unpacked / "src").rglob("*.py")]
    modules = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    assert "wiring" in modules
    assert imported(agent, unpacked, modules) == {}


def missing_imports(src):
    """Return the (file, function) of each import, at any depth, of a module of this project that is not there."""
    rooms = {path.stem for path in src.iterdir()} | {"pooler"}
    for file in src.rglob("*.py"):
        for top in ast.parse(file.read_text()).body:
            # A block `if TYPE_CHECKING:` does not run.
            if isinstance(top, ast.If) and ast.unparse(top.test) == "TYPE_CHECKING":
                continue
            for node in ast.walk(top):
                if isinstance(node, ast.ImportFrom):
                    modules = {str(node.module)}
                elif isinstance(node, ast.Import):
                    modules = {alias.name for alias in node.names}
                else:
                    continue
                for module in modules:
                    path = src.joinpath(*module.split("."))
                    known = path.with_suffix(".py").exists() or path.is_dir()
                    if module.split(".")[0] in rooms and not known:
                        yield file.relative_to(src).as_posix(), getattr(top, "name", "")


def test_only_the_ports_of_the_local_platform_import_what_is_left_out(unpacked):
    assert set(missing_imports(unpacked / "src")) == {("wiring.py", "local_ports")}


def test_the_templates_are_those_of_the_checkout(unpacked):
    for template in (ROOT / "templates").iterdir():
        assert (unpacked / "templates" / template.name).read_bytes() == template.read_bytes()


def test_both_files_have_the_libraries_that_are_pinned(packed):
    pins = (ROOT / "requirements" / "charm.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", pins, re.MULTILINE))
    asked = (ROOT / "requirements" / "charm.in").read_text()
    needed = re.findall(r"^([a-z0-9._-]+)", asked, re.MULTILINE)
    for file in (packed.amd64, packed.arm64):
        found = {
            distribution(match[1]): match[2]
            for name in names(file)
            if (match := re.fullmatch(r"venv/(.+)-([^-]+)\.dist-info/METADATA", name))
        }
        assert set(needed) <= set(found)
        assert found.items() <= {distribution(name): pin for name, pin in pinned.items()}.items()


@pytest.mark.parametrize("architecture", MACHINES)
def test_every_shared_library_is_of_the_architecture_of_its_file(packed, architecture):
    archive = zipfile.ZipFile(getattr(packed, architecture))
    machines = {}
    for name in archive.namelist():
        content = archive.read(name)
        if content.startswith(b"\x7fELF"):
            (machines[name],) = struct.unpack_from("<H", content, 18)
    libraries = {name for name in archive.namelist() if re.search(r"\.so(\.|$)", name)}
    assert libraries
    assert set(machines) == libraries
    assert set(machines.values()) == {MACHINES[architecture]}


def test_both_files_have_the_same_modules(packed):
    modules = [
        {name for name in names(file) if name.endswith((".py", ".pyc"))}
        for file in (packed.amd64, packed.arm64)
    ]
    assert modules[0] == modules[1]


def test_every_module_has_bytecode_that_is_not_checked(packed):
    archive = zipfile.ZipFile(packed.amd64)
    modules = {name for name in archive.namelist() if name.endswith(".py")}
    compiled = {name for name in archive.namelist() if name.endswith(".pyc")}
    assert compiled == {
        re.sub(r"([^/]+)\.py$", r"__pycache__/\1.cpython-312.pyc", name) for name in modules
    }
    # A header is the magic number of CPython 3.12, flags (1: by hash, 2: checked), and the hash.
    headers = {archive.read(name)[:8] for name in compiled}
    assert headers == {struct.pack("<H2sI", 3531, b"\r\n", 1)}


def test_bytecode_does_not_name_the_directory_of_the_build(packed):
    archive = zipfile.ZipFile(packed.amd64)
    named = [name for name in archive.namelist() if b"/tmp/packing-" in archive.read(name)]
    assert named == []


def test_the_platforms_are_those_of_charmcraft_yaml():
    platforms = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())["platforms"]
    made = [f"{platform.base}:{platform.architecture}" for platform in recipe.read().platforms]
    assert made == list(platforms)

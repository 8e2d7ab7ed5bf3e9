import ast
import subprocess
import sys
from pathlib import Path

import adtn


def loaded_modules(statement: str) -> set[str]:
    """The modules a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_plans_and_structures_load_no_torch() -> None:
    loaded = loaded_modules("import adtn.plan, adtn.structure, adtn.errors; adtn.brick_wall; adtn.make_plan")
    assert "adtn.growth" in loaded
    assert loaded.isdisjoint({"torch", "numpy", "safetensors"})


def test_every_public_name_exists_and_is_listed_for_type_checkers() -> None:
    source = ast.parse(Path(str(adtn.__file__)).read_text())
    typed = {alias.asname for node in ast.walk(source) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(adtn.__all__) <= typed
    assert all(hasattr(adtn, name) for name in adtn.__all__)
    assert dir(adtn) == sorted(adtn.__all__)


def test_the_version_is_that_of_the_package() -> None:
    assert adtn.__version__.count(".") == 2

"""Laws of importing: light, lazy, complete."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pihc_zoo


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded(statement):
    """Names of the heavy packages that a statement brings in."""
    heavy = ("torch", "numpy", "scipy", "onnx", "matplotlib", "h5py", "huggingface_hub", "safetensors")
    found = run(f"import sys; {statement}; print(*[n for n in {heavy!r} if n in sys.modules])")
    return set(found.split())


def test_importing_the_package_imports_nothing_heavy():
    assert loaded("import pihc_zoo") == set()
    assert loaded("import pihc_zoo; dir(pihc_zoo)") == set()


LIGHT = (
    *("text", "files", "config", "families", "zoo.registry", "status", "grid", "problems"),
    *("prediction", "prediction.request", "prediction.assembly", "prediction.prediction", "prediction.trust"),
)


@pytest.mark.parametrize("module", LIGHT)
def test_rooms_that_serve_every_backend_do_not_import_torch(module):
    assert "torch" not in loaded(f"import pihc_zoo.{module}")


def test_listing_models_needs_no_torch():
    assert "torch" not in loaded("import pihc_zoo as pz; assert pz.list_models() == sorted(pz.list_models())")


def test_drawing_initial_conditions_needs_no_torch():
    assert "torch" not in loaded("import pihc_zoo as pz; pz.sample('diffusion-sorption.general', 2)")
    assert "torch" not in loaded("import pihc_zoo as pz; pz.list_problems(), pz.register_problem, pz.register_family")


def test_importing_takes_no_time():
    """Less than 0.3 s beyond a bare interpreter; the best of three, measured inside."""
    code = "import time; t = time.perf_counter(); import pihc_zoo; print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(3)) < 0.3


def test_every_public_name_resolves():
    for name in pihc_zoo.__all__:
        assert getattr(pihc_zoo, name) is not None
        assert name in dir(pihc_zoo)
    assert len(pihc_zoo.__all__) <= 26 and len(set(pihc_zoo.__all__)) == len(pihc_zoo.__all__)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="'pihc_zoo' has no attribute 'from_pretraned'"):
        pihc_zoo.from_pretraned  # noqa: B018


def test_every_module_imports_without_its_extras_being_used():
    """Optional packages are imported where they are used, not at import of a module."""
    import pkgutil

    for info in pkgutil.walk_packages(pihc_zoo.__path__, "pihc_zoo."):
        if info.name.endswith("__main__"):
            continue
        importlib.import_module(info.name)


def public():
    """(name, function, its docstring) of public functions, and of the methods of public classes."""
    for name in pihc_zoo.__all__:
        value = getattr(pihc_zoo, name)
        if inspect.isfunction(value):
            yield name, value, value.__doc__
        for key, own in vars(value).items() if inspect.isclass(value) else ():
            function = own.fget if isinstance(own, property) else getattr(own, "__func__", own)
            if inspect.isfunction(function) and not key.startswith("_") and function.__module__ == value.__module__:
                yield f"{name}.{key}", function, inspect.getdoc(getattr(value, key))


@pytest.mark.parametrize(("function", "text"), [pytest.param(*rest, id=name) for name, *rest in public()])
def test_what_is_public_is_typed_and_documented(function, text):
    signature = inspect.signature(function)
    assert text
    assert signature.return_annotation is not signature.empty
    for name, parameter in signature.parameters.items():
        assert parameter.annotation is not parameter.empty or name in ("self", "cls"), name


def test_every_room_has_its_floor():
    """The import contract leaves none out, and has no exceptions."""
    root = Path(pihc_zoo.__file__).parent
    (contract,) = [
        own
        for own in tomllib.loads((root.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if own["type"] == "layers"
    ]
    rooms = {room.strip() for layer in contract["layers"] for room in layer.split("|")}
    modules = {
        ".".join((*path.relative_to(root.parent).parts[:-1], path.stem))
        for path in root.rglob("*.py")
        if not path.stem.startswith("__")
    }
    assert {name for name in modules if not any(name == room or name.startswith(f"{room}.") for room in rooms)} == set()
    assert "ignore_imports" not in contract

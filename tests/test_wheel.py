"""The wheel, built and installed alone elsewhere, predicts offline."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pihc_zoo.zoo.registry import list_models

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    python = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    run(*python, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


def test_contents(wheel):
    assert wheel.stat().st_size <= 40e6
    names = zipfile.ZipFile(wheel).namelist()
    for model in list_models():
        for file in ("config.json", "model.safetensors"):
            assert f"pihc_zoo/zoo/weights/{model}/{file}" in names
    assert "pihc_zoo/zoo/card_template.md" in names and any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pihc_zoo"}, "no training, export or tests"


def test_installed_alone_it_predicts_offline(wheel, tmp_path):
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(*pip, "--target", str(target), str(wheel), cwd=elsewhere)
    environment = {"PYTHONPATH": str(target), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    code = """
        import sys, pihc_zoo as pz
        assert pz.__file__.startswith(sys.argv[1]), pz.__file__
        assert "torch" not in sys.modules
        import numpy as np
        np.savez("in.npz", u0=np.full((2, 1024), 0.1))
        model = pz.from_pretrained("diffusion-sorption.general")
        assert model.predict(np.full((1, 1024), 0.1), times=[500.0]).u.shape == (1, 1, 1024)
        from pihc_zoo.zoo.exporting import export
        assert "MIT" in (export(model, "out") / "LICENSE").read_text()
    """
    script = "\n".join(line[8:] for line in code.splitlines())
    run(sys.executable, "-c", script, str(target), cwd=elsewhere, **environment)
    main = "import sys; from pihc_zoo.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ("predict", "diffusion-sorption.general", "in.npz", "--output", "out.npz")
    run(sys.executable, "-c", main, *command, cwd=elsewhere, **environment)
    import numpy as np

    with np.load(elsewhere / "out.npz") as file:
        assert np.isfinite(file["u"]).all() and file["u"].shape == (2, 101, 1024)
    assert "all well" in run(sys.executable, "-m", "pihc_zoo.cli", "doctor", cwd=elsewhere, **environment)

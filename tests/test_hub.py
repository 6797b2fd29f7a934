"""The zoo against a Hub on loopback: the real client, the real protocol, no internet."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import hub_server
import numpy as np
import pytest
import safetensors.torch
import torch
from hub_server import HubServer

from pihc_zoo import config as configuration
from pihc_zoo.files import sha256
from pihc_zoo.zoo.exporting import export as export_model
from pihc_zoo.zoo.exporting import save_pretrained
from pihc_zoo.zoo.hub import HubError
from pihc_zoo.zoo.loading import from_pretrained, model_info
from pihc_zoo.zoo.registry import list_models


def export(model, to, **options):
    """Of a model, or of the folder that holds one."""
    return export_model(from_pretrained(model) if isinstance(model, Path) else model, to, **options)


ROOT = Path(__file__).parents[1]
TOKEN = "hf_dummy"


@pytest.fixture
def hub():
    with HubServer(TOKEN) as server:
        yield server


@pytest.fixture
def client(hub, tmp_path):
    """``client(code, **environment)``: runs code in another process that knows this Hub only.

    The code gets `pz`, `refused(function, *a, **k)`, which returns the one line of a ValueError, and
    what it puts in ``answer`` comes back.
    """
    preamble = """
        import json, sys
        import pihc_zoo as pz
        answer = {}
        def refused(function, *arguments, **options):
            try:
                function(*arguments, **options)
            except ValueError as error:
                return str(error)
            return "not refused"
    """

    def run(code: str, **environment: str) -> dict:
        source = textwrap.dedent(preamble) + textwrap.dedent(code) + "\nprint('ANSWER', json.dumps(answer))\n"
        base = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        own = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-c", source], env=base | own | environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr[-3000:]
        line = next(line for line in done.stdout.splitlines() if line.startswith("ANSWER "))
        return json.loads(line.removeprefix("ANSWER "))

    return run


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A tiny saved model."""
    return save_pretrained(tiny_model(), tmp_path / "tiny")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def is_helpful(message: str, *words: str) -> bool:
    """One line that says what and, after a separator, what to do."""
    return "\n" not in message and any(mark in message for mark in ";:") and all(word in message for word in words)


# ---------------------------------------------------------------------- the whole workflow


def test_the_documented_workflow(tmp_path):
    """The example in hub_server.py, word for word: train → export → push → predict in another process."""
    lines = [line.strip() for line in hub_server.__doc__.splitlines() if line.startswith("    ")]
    assert len(lines) == 4 and lines[0] == "python -m tests.hub_server"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-u", "-m", "tests.hub_server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            server.stdout.readline()
            words = server.stdout.readline().split()
            assert words[0] == "export"
            environment |= dict(word.split("=", 1) for word in words if "=" in word) | {
                "HF_HOME": str(tmp_path / "home")
            }
            output = []
            for line in lines[1:]:
                words = line.replace("runs/", f"{tmp_path}/").split()
                if words[0] == "pihc":
                    main = "import sys; from pihc_zoo.cli import main; sys.exit(main(sys.argv[1:]))"
                    words = ["python", "-c", main, *words[1:]]
                done = subprocess.run(
                    [sys.executable, *words[1:]], env=environment, capture_output=True, text=True, cwd=ROOT
                )
                assert done.returncode == 0, f"{line}: {done.stderr}"
                output.append(done.stdout)
        finally:
            server.terminate()
    assert "pushed and verified, tagged v1.0" in output[1]
    with np.load(tmp_path / "brief" / "out.npz") as file:
        assert np.isfinite(file["u"]).all() and file["u"].shape == (1, 101, 1024)


def test_push_then_load_elsewhere_is_the_same_model(hub, client, tmp_path, fields, tiny_model):
    """Bit for bit the same weights, so the same prediction, at the tag; all in one commit."""
    model = tiny_model()
    save_pretrained(model, tmp_path / "tiny")
    u0 = fields(2)
    np.savez(tmp_path / "u0.npz", u0=u0)
    answer = client(
        """
        import numpy as np
        pz.from_pretrained("tiny").push_to_hub("me/tiny", tag="v1.0")
        u0 = np.load("u0.npz")["u0"]
        model = pz.from_pretrained("me/tiny", revision="v1.0", verify=True)
        np.savez("u.npz", u=model.predict(u0, times=[250.0, 500.0]).u)
        answer["name"] = model.name
        answer["info"] = sorted(pz.model_info("me/tiny", revision="v1.0"))
        """
    )
    repository = hub.repositories["me/tiny"]
    assert len(repository.messages) == 2, "one initial commit by the Hub, one of ours"
    files = repository.commits[repository.tags["v1.0"]]
    assert {"config.json", "model.safetensors", "README.md", "example.npz", "LICENSE"} <= set(files)
    assert b'from_pretrained("me/tiny")' in files["README.md"]
    assert answer == {"name": "me/tiny", "info": ["config", "name"]}
    expected = model.predict(u0, times=[250.0, 500.0]).u
    np.testing.assert_allclose(np.load(tmp_path / "u.npz")["u"], expected, rtol=1e-7)


def test_a_tuned_model_is_the_same_model_elsewhere(hub, client, folder, fields, tmp_path):
    """New constants, weights, trust report and base model travel; the pulled model predicts the same bits."""
    np.savez(tmp_path / "fields.npz", u0=fields(4))
    answer = client(
        """
        import numpy as np
        tuned = pz.finetune(
            pz.from_pretrained("tiny"), "fields.npz", "out", parameters={"k_f": 4e-4}, steps=4, quiet=True
        )
        tuned.model.push_to_hub("me/tuned", tag="v1.0")
        model = pz.from_pretrained("me/tuned", revision="v1.0", verify=True)
        u0 = np.load("fields.npz")["u0"]
        one, two = (m.predict(u0, times=[250.0, 500.0]) for m in (tuned.model, model))
        answer["is_same"] = bool((one.u == two.u).all() and (one.is_reliable == two.is_reliable).all())
        answer["k_f"] = model.problem.defaults()["k_f"]
        answer["trust"] = model.trust == tuned.model.trust
        """
    )
    assert answer == {"is_same": True, "k_f": 4e-4, "trust": True}
    repository = hub.repositories["me/tuned"]
    files = repository.commits[repository.tags["v1.0"]]
    assert b"base_model: tiny" in files["README.md"] and b"## Fine-tuning" in files["README.md"]
    assert "finetuning.png" in files and "history.json" not in files


def test_a_damaged_file_is_not_pushed_and_one_damaged_on_its_way_not_read(hub, client, tmp_path, tiny_model):
    folder = export(tiny_model(), tmp_path / "tiny")
    write = "(folder / 'example.npz').write_bytes((folder / 'example.npz').read_bytes()[:-1] + b'x')"
    answer = client(
        f"""
        from pathlib import Path
        from pihc_zoo.zoo.publish import push
        folder = Path({str(folder)!r})
        push(folder, "me/tiny", tag="v1")
        answer["same"] = pz.model_info("me/tiny")["config"] == pz.model_info(str(folder))["config"]
        answer["served"] = refused(pz.from_pretrained, "me/tiny", verify=True)
        {write}
        answer["pushed"] = refused(push, folder, "me/tiny", tag="v2")
        """
    )
    assert answer["same"] and answer["served"] == "not refused"
    assert is_helpful(answer["pushed"], "example.npz", "damaged or was changed")
    assert hub.repositories["me/tiny"].tags.keys() == {"v1"}
    files = hub.repositories["me/tiny"].commits[hub.repositories["me/tiny"].tags["v1"]]
    hub.add("me/spoilt", {**files, "example.npz": files["example.npz"][:-1] + b"x"})
    answer = client('answer["line"] = refused(pz.from_pretrained, "me/spoilt", verify=True)')
    assert is_helpful(answer["line"], "example.npz", "damaged or was changed", "force_download=True")


def test_push_is_idempotent_and_never_moves_a_tag(hub, client, folder, tiny_model, tmp_path):
    other = save_pretrained(tiny_model(seed=1), tmp_path / "other")
    answer = client(
        f"""
        from pihc_zoo.zoo.publish import push
        first, second = (push({str(folder)!r}, "me/tiny", tag="v1") for _ in range(2))
        answer["new"] = [first.is_new, second.is_new]
        answer["same"] = first.commit == second.commit
        answer["moved"] = refused(push, {str(other)!r}, "me/tiny", tag="v1")
        answer["next"] = push({str(other)!r}, "me/tiny", tag="v2").is_new
        """
    )
    assert answer["new"] == [True, False] and answer["same"] and answer["next"]
    assert is_helpful(answer["moved"], "'v1'", "choose a new one")
    repository = hub.repositories["me/tiny"]
    served = repository.commits[repository.tags["v1"]]["model.safetensors"]
    assert served == (folder / "model.safetensors").read_bytes()
    assert len(repository.messages) == 3


@pytest.mark.parametrize("fault", ["cut_commit", "cut_upload"])
def test_a_broken_push_leaves_the_old_revision_and_can_be_repeated(hub, client, folder, tiny_model, tmp_path, fault):
    other = save_pretrained(tiny_model(seed=1), tmp_path / "other")
    code = """
        from pihc_zoo.zoo import publish
        import huggingface_hub.lfs as lfs, functools
        lfs.http_backoff = functools.partial(lfs.http_backoff, max_retries=0)
        answer["line"] = refused(publish.push, {!r}, "me/tiny", tag={!r})
    """
    assert client(code.format(str(folder), "v1"))["line"] == "not refused"
    repository = hub.repositories["me/tiny"]
    before = dict(repository.branches), dict(repository.tags)
    setattr(hub.faults, fault, 1)
    assert is_helpful(client(code.format(str(other), "v2"))["line"], "broke off", "run it again")
    assert (repository.branches, repository.tags) == before
    assert client(code.format(str(other), "v2"))["line"] == "not refused"
    assert repository.tags.keys() == {"v1", "v2"} and repository.tags["v1"] == before[1]["v1"]


def test_push_to_hub_options_and_a_card_written_by_hand(hub, client, tmp_path, folder):
    answer = client(
        f"""
        model = pz.from_pretrained({str(folder)!r})
        answer["first"] = model.push_to_hub("me/tiny", private=True, branch="dev", commit_message="hello")
        answer["pr"] = model.push_to_hub("me/tiny", create_pr=True)
        answer["both"] = refused(model.push_to_hub, "me/tiny", create_pr=True, tag="v1")
        """
    )
    repository = hub.repositories["me/tiny"]
    assert repository.private and "hello" in repository.messages and repository.pull_requests == 1
    assert "/discussions/1" in answer["pr"] and is_helpful(answer["both"])
    assert list(repository.commits[repository.branches["main"]]) == [".gitattributes"], "only the branch and the PR"
    card = b"---\nlicense: mit\n---\nby hand\n"
    hub.add("me/own", {"README.md": card})
    client(f"from pihc_zoo.zoo.publish import push\npush({str(folder)!r}, 'me/own')")
    own = hub.repositories["me/own"]
    files = own.commits[own.branches["main"]]
    assert files["README.md"] == card and "model.safetensors" in files


def test_without_lfs_and_with_xet_installed(hub, client, folder):
    hub.large = ()
    answer = client(
        f"""
        from pihc_zoo.zoo.publish import push
        push({str(folder)!r}, "me/tiny")
        answer["name"] = pz.from_pretrained("me/tiny").name
        """,
        HF_HUB_DISABLE_XET="0",
    )
    assert answer["name"] == "me/tiny"


# ---------------------------------------------------------------------- download and cache


def test_revision_subfolder_cache_and_offline(hub, client, folder, tiny_model, tmp_path):
    other = save_pretrained(tiny_model(seed=1), tmp_path / "other")
    old = hub.add("me/tiny", files_of(folder))
    hub.add("me/tiny", files_of(other))
    hub.add("me/nested", {f"models/a/{name}": data for name, data in files_of(folder).items()})
    digest = {name: json.loads((path / "config.json").read_text())["weights_sha256"] for name, path in
              (("old", folder), ("new", other))}  # fmt: skip
    answer = client(
        f"""
        load = lambda *a, **k: pz.from_pretrained(*a, **k).config["weights_sha256"]
        answer["new"], answer["old"] = load("me/tiny"), load("me/tiny", revision={old!r})
        answer["nested"] = load("me/nested", subfolder="models/a", cache_dir="elsewhere")
        answer["cached"] = load("me/tiny", local_files_only=True)
        answer["forced"] = load("me/tiny", force_download=True)
        """
    )
    assert answer["new"] == answer["cached"] == answer["forced"] == digest["new"]
    assert answer["old"] == answer["nested"] == digest["old"]
    assert (tmp_path / "elsewhere").is_dir()
    hub.requests.clear()
    offline = client(
        """
        answer["offline"] = pz.from_pretrained("me/tiny").config["weights_sha256"]
        answer["shipped"] = pz.from_pretrained(pz.list_models()[0]).name
        answer["missing"] = refused(pz.from_pretrained, "me/other")
        answer["push"] = refused(pz.from_pretrained("me/tiny").push_to_hub, "me/x")
        answer["force"] = refused(pz.from_pretrained, "me/tiny", force_download=True)
        """,
        HF_HUB_OFFLINE="1",
    )
    assert offline["offline"] == digest["new"] and offline["shipped"] and hub.requests == []
    assert is_helpful(offline["missing"], "HF_HUB_OFFLINE")
    assert is_helpful(offline["push"], "HF_HUB_OFFLINE") and is_helpful(offline["force"], "force_download")


def test_concurrent_downloads_into_one_cache(hub, client, folder):
    hub.add("me/tiny", files_of(folder))
    answer = client(
        """
        from concurrent.futures import ThreadPoolExecutor
        import subprocess
        code = "import pihc_zoo as pz; print(pz.from_pretrained('me/tiny').name)"
        others = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        with ThreadPoolExecutor(4) as pool:
            names = list(pool.map(lambda _: pz.from_pretrained("me/tiny").name, range(4)))
        answer["names"] = names + [process.communicate()[0].strip() for process in others]
        """
    )
    assert answer["names"] == ["me/tiny"] * 6


def test_a_corrupted_file_is_refused_and_can_be_downloaded_again(hub, client, folder):
    hub.add("me/tiny", files_of(folder))
    code = """
        answer["line"] = refused(pz.from_pretrained, "me/tiny")
        answer["forced"] = refused(pz.from_pretrained, "me/tiny", force_download=True)
    """
    hub.faults.corrupt = "model.safetensors"
    assert is_helpful(client(code)["line"], "damaged", "force_download=True")
    hub.faults.corrupt = ""
    answer = client(code)
    assert answer["forced"] == "not refused"


def test_a_cut_download_is_said_and_resumes(hub, client, folder):
    hub.add("me/tiny", files_of(folder))
    code = """
        import huggingface_hub.file_download as download
        download.time.sleep = lambda seconds: None
        answer["line"] = refused(pz.from_pretrained, "me/tiny")
    """
    hub.faults.cut_download = "model.safetensors"
    assert is_helpful(client(code)["line"], "broke off", "run it again")
    hub.faults.cut_download = ""
    assert client(code)["line"] == "not refused"


# ---------------------------------------------------------------------- refusals


def test_refusals_of_the_hub_are_one_helpful_line(hub, client, folder):
    own = files_of(folder)
    hub.add("me/tiny", own)
    hub.add("me/gated", own, gated=True)
    hub.add("me/private", own, private=True)
    hub.add("me/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": own["model.safetensors"]})
    hub.add("me/empty", {"README.md": b"nothing here"})
    hub.add("me/pickle", {"config.json": own["config.json"], "pytorch_model.bin": b"cos\nsystem\n(S'false'\ntR."})
    answer = client(
        """
        from pihc_zoo.zoo.publish import push
        load = pz.from_pretrained
        answer["absent"] = refused(load, "me/absent")
        answer["revision"] = refused(load, "me/tiny", revision="v9")
        answer["gated"] = refused(load, "me/gated")
        answer["foreign"] = refused(load, "me/bert")
        answer["empty"] = refused(load, "me/empty")
        answer["pickle"] = refused(load, "me/pickle")
        answer["subfolder"] = refused(load, "me/tiny", subfolder="none")
        answer["local only"] = refused(load, "me/other", local_files_only=True)
        answer["climb"] = refused(load, "me/tiny", subfolder="../../etc")
        answer["climb revision"] = refused(load, "me/tiny", revision="../../../main")
        answer["climb name"] = refused(load, "me/../..")
        answer["onnx"] = refused(load, "me/tiny", backend="onnx")
        model = load("me/tiny")
        answer["forbidden"] = refused(model.push_to_hub, "forbidden/tiny")
        answer["owner"] = refused(model.push_to_hub, "tiny")
        answer["wrong token"] = refused(load, "me/private", token="hf_wrong")
        answer["push wrong token"] = refused(model.push_to_hub, "me/tiny", token="hf_wrong")
        import huggingface_hub.file_download as download
        def full(*arguments, **options):
            raise OSError(28, "No space left on device")
        download.http_get = full
        answer["disk"] = refused(load, "me/tiny", force_download=True)
        """
    )
    words = {
        "absent": "check the name",
        "revision": "no revision 'v9'",
        "gated": "gated",
        "foreign": "not a pihc_zoo configuration",
        "empty": "no config.json",
        "pickle": "no model.safetensors",
        "subfolder": "no config.json",
        "local only": "local_files_only",
        "climb": "climbs out",
        "climb revision": "climbs out",
        "climb name": "not a Hub id",
        "onnx": "no model.onnx",
        "forbidden": "HTTP 403",
        "owner": "'org/name'",
        "wrong token": "HTTP 401",
        "push wrong token": "HTTP 401",
        "disk": "disk is full",
    }
    for key, word in words.items():
        assert is_helpful(answer[key], word), (key, answer[key])
    assert not any("bert/resolve/main/model.safetensors" in line or ".bin" in line for line in hub.requests)


def test_no_network_and_no_token(hub, client, folder):
    hub.add("me/private", files_of(folder), private=True)
    code = f"""
        from pihc_zoo.zoo.publish import push
        answer["load"] = refused(pz.from_pretrained, "me/private")
        answer["push"] = refused(push, {str(folder)!r}, "me/tiny")
    """
    without = client(code, HF_TOKEN="")
    assert is_helpful(without["load"], "log in") and is_helpful(without["push"], "needs a token")
    down = client(code, HF_ENDPOINT="http://127.0.0.1:9")
    assert is_helpful(down["load"], "cannot be reached", "HF_ENDPOINT") and is_helpful(
        down["push"], "cannot be reached"
    )


# ---------------------------------------------------------------------- local folders


def test_names(tmp_path):
    assert list_models("diffusion*") == list_models(problem="diffusion-sorption")
    assert sorted(list_models(pretrained=True) + list_models(pretrained=False)) == list_models()
    name = list_models()[0]
    assert model_info(name)["config"]["problem"]["name"] == name.split(".")[0]
    for bad in (name[:-1], "../no/where", "no/such/folder", "", "~no.such.user/x", "x" * 5000, "a/" + "x" * 5000):
        with pytest.raises(ValueError) as caught:
            from_pretrained(bad)
        assert is_helpful(str(caught.value)) or bad == "", caught.value
    with pytest.raises(ValueError, match="no revisions"):
        from_pretrained(name, revision="v1")


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_pickles_are_never_opened(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    bomb = pickle.dumps(Bomb())
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt", "model.pkl"):
        (folder / name).write_bytes(bomb)
        for target in (folder, folder / name):
            with pytest.raises(ValueError, match=r"pickle.*not opened"):
                from_pretrained(target)
        (folder / name).unlink()
    (folder / "model.safetensors").write_bytes(bomb)  # renamed: the digest stops it, then the format
    with pytest.raises(ValueError, match="damaged"):
        from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["weights_sha256"] = sha256(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        from_pretrained(folder)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
def test_weights_must_fit_exactly(folder, change):
    path = folder / "model.safetensors"
    state = safetensors.torch.load_file(path)
    key = sorted(state)[0]
    if change == "missing":
        del state[key]
    elif change == "unexpected":
        state["stranger"] = torch.zeros(2)
    else:
        state[key] = torch.zeros(7, 7, 7)
    safetensors.torch.save_file(state, path)
    with pytest.raises(ValueError, match="damaged or was changed"):
        from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["weights_sha256"] = sha256(path)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"does not fit its config.json: {change}"):
        from_pretrained(folder)


def test_shards_are_checked_each(tiny_model, tmp_path, fields):
    model = tiny_model()
    size = sum(value.nbytes for value in model.network.state_dict().values())
    folder = save_pretrained(model, tmp_path / "sharded", max_shard_size=size // 2)
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    assert len(shards) > 1 and not (folder / "model.safetensors").exists()
    assert set(json.loads((folder / "config.json").read_text())["weights_sha256"]) == {s.name for s in shards}
    loaded = from_pretrained(folder)
    for key, value in model.network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[key], value, rtol=0, atol=0)
    index = folder / "model.safetensors.index.json"
    text = index.read_text()
    index.write_text(text.replace(shards[0].name, "../" + shards[0].name))
    with pytest.raises(ValueError, match="not a safetensors file of its folder"):
        from_pretrained(folder)
    index.write_text(text)
    shards[1].write_bytes(shards[1].read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=f"{shards[1].name}.*damaged"):
        from_pretrained(folder)
    shards[1].unlink()
    with pytest.raises(ValueError, match="lacks the shard"):
        from_pretrained(folder)
    save_pretrained(model, folder)
    assert not list(folder.glob("model-*")) and not index.exists()
    from_pretrained(folder)


def test_old_configurations_migrate_and_newer_are_refused(folder, monkeypatch):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    old = {**config, "config_version": "0.9", "constraint": config["residual_map"]}
    del old["residual_map"]

    def renamed(config):
        config["residual_map"] = config.pop("constraint")
        return {**config, "config_version": "1.0"}

    path.write_text(json.dumps(old))
    with pytest.raises(ValueError):
        from_pretrained(folder)
    monkeypatch.setitem(configuration.MIGRATIONS, (0, 9), renamed)
    assert from_pretrained(folder).config["residual_map"] == config["residual_map"]
    path.write_text(json.dumps({**config, "config_version": "9.0"}))
    with pytest.raises(configuration.ConfigError, match=r"newer than this package.*upgrade"):
        from_pretrained(folder)
    for text in ("{", "[]", '{"format": "pihc_zoo"}', json.dumps({**config, "surprise": 1}), "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(configuration.ConfigError):
            from_pretrained(folder)
    for broken in ({"grid": {}}, {"problem": 3}, {"decomposition": []}):
        path.write_text(json.dumps({**config, **broken}))
        with pytest.raises(ValueError) as caught:
            from_pretrained(folder)
        assert "\n" not in str(caught.value)


def test_devices_and_precision(folder):
    assert from_pretrained(folder, dtype="float64").dtype == torch.float64
    assert from_pretrained(folder, dtype=torch.float32).dtype == torch.float32
    for options in ({"dtype": "float16"}, {"dtype": torch.float16}, {"device": "gpu"}, {"backend": "jax"}):
        with pytest.raises(ValueError) as caught:
            from_pretrained(folder, **options)
        assert "\n" not in str(caught.value)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="cannot use device 'cuda'"):
            from_pretrained(folder, device="cuda")


def test_shipped_models_load_without_the_hub_client():
    code = (
        "import sys, pihc_zoo as pz, torch, pihc_zoo.surrogate; from time import process_time as now; start = now();"
        "pz.from_pretrained(pz.list_models()[0]); print(now() - start);"
        "assert 'huggingface_hub' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2, "0.5 s"


def test_names_do_not_import_torch():
    code = "import sys, pihc_zoo as pz; pz.model_info(pz.list_models()[0]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_errors_are_value_errors():
    assert issubclass(HubError, ValueError)

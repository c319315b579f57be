"""Whatever decides an artifact is part of its key."""

import json

from pock_tvm.cli.compile_key import compile_key


def test_the_key_is_of_all_that_decides(tmp_path):
    def key(model="zoo:mcunet", **arguments):
        return compile_key(model, {"update": "full", "target": "host", **arguments})

    scheme = tmp_path / "scheme.toml"
    scheme.write_text("learn = ['*.bias']")
    keys = [key(), key("zoo:proxyless"), key(update="bias"), key(update=str(scheme))]
    scheme.write_text("learn = ['*.weight']")
    keys.append(key(update=str(scheme)))
    model = tmp_path / "net.tflite"
    for raw in (b"one", b"two"):
        model.write_bytes(raw)
        keys.append(key(str(model)))
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


def test_a_record_makes_another_key(tmp_path, monkeypatch):
    monkeypatch.setenv("POCK_RECORDS", str(tmp_path))
    keys = [compile_key("zoo:mcunet", {})]
    for text in ("{}", "{ }"):
        (tmp_path / "znver5.json").write_text(text)
        keys.append(compile_key("zoo:mcunet", {}))
    assert len({*keys}) == 3
    assert compile_key("zoo:mcunet", {}) == keys[-1]


def test_models_that_change_without_being_seen_have_no_key(tmp_path):
    outside = tmp_path / "net.onnx"
    outside.write_bytes(json.dumps({"external_data": "location"}).encode())
    assert compile_key(str(outside), {}) is None
    assert compile_key("small_net:build", {}) is None
    assert compile_key(str(tmp_path / "missing.pt2"), {}) is None

from dataclasses import fields

from pock_tvm.targets import TargetSpec, target_specs


def test_the_list(pock):
    text = pock("targets")
    for name in target_specs():
        assert f"\n  {name} " in text
    assert [t["name"] for t in pock("targets", "--json")["targets"]] == list(target_specs())


def test_show_has_every_field(pock):
    assert set(pock("targets", "show", "raspberry-pi-4", "--json")) == {
        field.name for field in fields(TargetSpec)
    }


def test_show_has_units(pock):
    text = pock("targets", "show", "raspberry-pi-4")
    assert "level-1 data cache  32.0 KiB per core\n" in text
    assert "vector register     128 bits\n" in text


def test_an_unknown_name(refused):
    message = refused("targets", "show", "rasberry-pi-4")
    assert "did you mean 'raspberry-pi-4'? (`pock targets` lists all)" in message


def test_show_has_the_gpu(pock):
    text = pock("targets", "show", "opencl")
    assert "GPU                  kind=opencl max_num_threads=256\n" in text
    assert "GPU's shared memory  16.0 KiB per work-group\n" in text
    assert "GPU" not in pock("targets", "show", "raspberry-pi-4")

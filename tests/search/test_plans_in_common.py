"""Plans of many schemes share what does not depend on the scheme, and stay the same plans."""

from dataclasses import asdict
from pathlib import Path

from bars_net import small_model

from pock_tvm.compilation.graphs import InCommon
from pock_tvm.frontend import load_model as load_reference
from pock_tvm.search.planning import Setting, perform, plan_scheme
from pock_tvm.search.stored_model import save_model
from pock_tvm.update import LoRA, Rule, UpdateScheme

SETTING = {"target": "host", "optimizer": "adamw", "loss": "cross_entropy"}
SCHEMES = (
    UpdateScheme(name="full", trainable=("*",)),
    UpdateScheme(name="head", trainable=("head.*",)),
    UpdateScheme(
        name="lora", trainable=("head.*",), lora=(LoRA(rank=2, alpha=4.0, targets=("project.*",)),)
    ),
    UpdateScheme(
        name="half", trainable=("head.*",), rules=(Rule(match=("expand.weight",), channels=0.5),)
    ),
)


def test_plans_are_those_of_each_scheme_alone():
    model, common = small_model(), InCommon()
    together = [plan_scheme(model, s, **SETTING, common=common) for s in SCHEMES]
    assert common.canonical is not None
    assert {name for name, *_ in common.lowered} == {"evaluate", "predict"}
    assert together == [plan_scheme(model, s, **SETTING) for s in SCHEMES]
    assert together[0].transient_bytes > together[1].transient_bytes


def test_attention_in_tiles_is_planned_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    model = load_reference("small_transformer:build", 2)
    save_model(model, tmp_path)
    plans = {}
    for attention in ("full", "flash"):
        setting = Setting(model=str(tmp_path), attention=attention)
        plans[attention] = perform(setting.plan_task(SCHEMES[0]))
    planned = plan_scheme(model, SCHEMES[0], **SETTING, attention="flash")
    assert plans["flash"] == asdict(planned)
    assert plans["full"]["calls"] != plans["flash"]["calls"]

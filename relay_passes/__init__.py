"""Graph passes: each module holds one pass, each pass maps an IRModule to an IRModule.

The folder keeps the name that the project was given when TVM's graph language was Relay. Relay left
TVM in 0.20; the passes work on Relax, its successor. ``pipeline.py`` lists them in order.
"""

if __name__ != "pock_tvm.relay_passes":
    raise ImportError("import pock_tvm.relay_passes, not relay_passes")

"""NVIDIA's GPUs, through CUDA's driver: Jetson boards, and one server."""

from pock_tvm.targets.base import DeviceSpec, TargetSpec


def _device(architecture: str, cores: int) -> DeviceSpec:
    return DeviceSpec(
        tvm_options={"kind": "cuda", "arch": architecture, "max_num_threads": 1024},
        group_threads=128,
        # Each core has several threads under way, to wait for memory while others compute.
        busy_threads=16 * cores,
        shared_bytes=48 * 1024,
    )


def _jetson(name: str, core: str, device: DeviceSpec, cpus: int, source: str) -> TargetSpec:
    return TargetSpec(
        name=name,
        tvm_options={"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": core},
        zig_target="aarch64-linux-gnu.2.27",
        zig_options=(f"-mcpu={core.replace('-', '_')}",),
        core=core,
        device=device,
        vector_bits=128,
        vector_registers=32,
        l1_bytes=32 * 1024,
        l2_bytes=512 * 1024,
        cores=cpus,
        source=source,
    )


SPECS = (
    _jetson(
        "jetson-nano",
        "cortex-a57",
        _device("sm_53", 128),
        4,
        "NVIDIA Jetson Nano System-on-Module data sheet: 128 Maxwell cores, four Cortex-A57",
    ),
    _jetson(
        "jetson-xavier",
        "carmel",
        _device("sm_72", 512),
        8,
        "NVIDIA Jetson AGX Xavier Series data sheet: 512 Volta cores, eight Carmel",
    ),
    _jetson(
        "jetson-orin",
        "cortex-a78ae",
        _device("sm_87", 2048),
        12,
        "NVIDIA Jetson AGX Orin Series data sheet: 2048 Ampere cores, twelve Cortex-A78AE",
    ),
    TargetSpec(
        name="cuda-sm90",
        tvm_options={"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64"},
        zig_target="x86_64-linux-gnu.2.28",
        core="x86-64",
        device=_device("sm_90", 16896),
        vector_bits=128,
        vector_registers=16,
        l1_bytes=32 * 1024,
        l2_bytes=256 * 1024,
        cores=1,
        source="NVIDIA H100 Tensor Core GPU architecture, SXM5: 132 multiprocessors of 128 cores",
    ),
)

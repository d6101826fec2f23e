"""Carries the kernel without Warp: NVRTC compiles it to PTX, which XLA takes in a custom call.

The target of that call is XLA's own and may change with any version. It takes no Python on the way to a launch.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from zero_jax.executors import devices
from zero_jax.executors.fusion import ALL_OPS, Superinstruction
from zero_jax.executors.gpu import source
from zero_jax.executors.gpu.layout import Shape
from zero_jax.program.ops import Op

_TYPES = {"int": jnp.int32, "float": jnp.float32}


def text(shape: Shape, ops: Sequence[Op | Superinstruction] = ALL_OPS[1:]) -> str:
    """The kernel as a translation unit of CUDA C++; `ops` as for `source.body`."""
    given = [f"const {kind} *const {name}" for name, kind in source.ARGUMENTS.items()]
    filled = [f"{kind} *const {name}" for name, kind in source.RESULTS.items()]
    barrier = "__syncwarp()" if shape.threads == 32 else "__syncthreads()"
    return f"""#define BARRIER() {barrier}
extern "C" __global__ void __launch_bounds__({shape.threads}, {shape.blocks}) zero_jax({", ".join(given + filled)}) {{
extern __shared__ __align__(16) float shared[];
const int block = blockIdx.x, thread = threadIdx.x;
{source.body(shape, ops)}
}}
"""


@functools.lru_cache(maxsize=64)
def ptx(shape: Shape, architecture: int) -> str:
    """The kernel for one shape, for GPUs of a compute capability such as 90 and later ones."""
    return compiled(text(shape), f"compute_{architecture}").decode()


def compiled(text: str, architecture: str) -> bytes:
    """What NVRTC makes of a translation unit: machine code for `sm_90` and the like, PTX for `compute_90`.

    Raises:
      RuntimeError: it refuses the text, and says why.
    """
    from cuda.bindings import nvrtc

    def done(code: nvrtc.nvrtcResult, *values: int) -> int:
        if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"NVRTC: {code.name}")
        return values[0] if values else 0

    program = done(*nvrtc.nvrtcCreateProgram(text.encode(), b"zero_jax.cu", 0, None, None))
    arguments = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
    (code,) = nvrtc.nvrtcCompileProgram(program, len(arguments), arguments)
    if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = bytearray(done(*nvrtc.nvrtcGetProgramLogSize(program)))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"NVRTC: {log.decode(errors='replace')}")
    machine = architecture.startswith("sm_")
    made = bytearray(done(*(nvrtc.nvrtcGetCUBINSize if machine else nvrtc.nvrtcGetPTXSize)(program)))
    done(*(nvrtc.nvrtcGetCUBIN if machine else nvrtc.nvrtcGetPTX)(program, made))
    return bytes(made) if machine else bytes(made).rstrip(b"\0")


def call(
    shape: Shape, blocks: int, given: Mapping[str, jax.Array], results: Mapping[str, tuple[int, ...]]
) -> dict[str, jax.Array]:
    """As `warp_carrier.call`."""
    architecture = "".join(map(str, devices.compute_capability(devices.default_device())))
    kinds = [jax.ShapeDtypeStruct(results[name], _TYPES[kind]) for name, kind in source.RESULTS.items()]
    sizes = {"grid_x": blocks, "grid_y": 1, "grid_z": 1, "block_x": shape.threads, "block_y": 1, "block_z": 1}
    launched = jax.ffi.ffi_call("__gpu$xla.gpu.ptx", kinds, vmap_method="sequential")(
        *(given[name] for name in source.ARGUMENTS),
        name="zero_jax",
        kernel_type="ptx",
        kernel_data=ptx(shape, int(architecture)),
        shared_mem_bytes=np.int32(4 * shape.shared_words),
        **{name: np.int32(size) for name, size in sizes.items()},
    )
    return dict(zip(source.RESULTS, launched, strict=True))

"""The PyTorch twin in runtimes that only infer, OpenVINO and onnxruntime, exported to ONNX."""
# PyTorch may be absent where types are checked; then its classes are Any.
# mypy: allow-subclassing-any

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
from torch import Tensor, nn

from avq.workers import usable_cores

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}  # as OpenVINO names them


class Method(nn.Module):
    """A method of a module as a module of its own, which is what `torch.onnx` exports."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, x: Tensor) -> Any:
        return getattr(self.module, self.name)(x)


def exported(module: nn.Module, name: str, x: Tensor) -> bytes:
    """A method of a module in evaluation mode as ONNX, for inputs like `x`."""
    file = io.BytesIO()
    torch.onnx.export(Method(module, name).eval(), (x,), verbose=False).save(file)
    return file.getvalue()


class OpenVINO:
    """An ONNX program compiled by OpenVINO."""

    def __init__(self, model: bytes, dtype: str) -> None:
        core, threads = openvino.Core(), usable_cores()
        options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", options)
        if (used := compiled.get_property("INFERENCE_NUM_THREADS")) != threads:
            raise ValueError(f"OpenVINO uses {used} threads where {threads} were asked for")
        self._request, self._count = compiled.create_infer_request(), len(compiled.outputs)

    @classmethod
    def computes_in(cls, dtype: str) -> bool:
        """Whether the processor does; OpenVINO imitates bfloat16 on others, slowly."""
        able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return dtype == "float32" or "BF16" in able

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        """All outputs, which the next call overwrites."""
        outputs = self._request.infer({0: x}, share_inputs=True, share_outputs=True)
        return [outputs[i] for i in range(self._count)]


class OnnxRuntime:
    """An ONNX program in a session of onnxruntime."""

    def __init__(self, model: bytes, dtype: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    @classmethod
    def computes_in(cls, dtype: str) -> bool:
        """Whether it has convolutions in that type on a CPU."""
        return dtype == "float32"

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        """All outputs."""
        return list(self._session.run(None, {self._input: x}))


RUNTIMES: dict[str, type[OpenVINO] | type[OnnxRuntime]] = {
    "OpenVINO": OpenVINO,
    "onnxruntime": OnnxRuntime,
}


class RuntimeCalls:
    """Encoding and decoding of the twin by one of RUNTIMES.

    Args:
        runtime: its name.
        models: ONNX of 'encode' and 'decode'.
        pixels: to encode, channels first.
        codes: to decode, of the finest level.
        dtype: of convolutions and products.
    """

    def __init__(
        self, runtime: str, models: Mapping[str, bytes], pixels: Tensor, codes: Tensor, dtype: str
    ) -> None:
        make = RUNTIMES[runtime]
        self._encode, self._decode = make(models["encode"], dtype), make(models["decode"], dtype)
        self._pixels, self._codes = pixels.contiguous().numpy(), codes.numpy()

    def encode(self) -> list[np.ndarray]:
        """Codes by level, finest first."""
        return self._encode(self._pixels)

    def decode(self) -> np.ndarray:
        """Images from the codes of the finest level."""
        return self._decode(self._codes)[0].transpose(0, 2, 3, 1)

"""ONNX for operators that torch's exporter lacks or translates in too low a precision (onnxscript)."""

import numpy as np
import onnx
import torch
from onnxscript import DOUBLE, script
from onnxscript import opset18 as op  # the exporter's own; it converts to the final version
from onnxscript.values import Opset

from ..solvers import dense  # noqa: F401 (registers pihc_zoo::eliminate)

_DOMAIN = Opset("pihc_zoo", 1)


@script(_DOMAIN)
def gauss_jordan(matrix: DOUBLE[...], right: DOUBLE[...]) -> tuple[DOUBLE[...], DOUBLE[...]]:
    """As `solvers.dense.eliminate`."""
    rest = op.Concat(matrix, right, axis=-1)
    smallest = op.Slice(rest, [0, 0], [1, 1], [-2, -1])
    count = op.Squeeze(op.Shape(matrix, start=-1))
    for _ in range(count):
        pivot = op.Slice(rest, [0, 0], [1, 1], [-2, -1])
        row = op.Div(op.Slice(rest, [0, 1], [1, 2147483647], [-2, -1]), pivot)
        column = op.Slice(rest, [1, 0], [2147483647, 1], [-2, -1])
        below = op.Slice(rest, [1, 1], [2147483647, 2147483647], [-2, -1])
        smallest = op.Min(smallest, pivot)
        rest = op.Concat(op.Sub(below, op.Mul(column, row)), row, axis=-2)
    return rest, op.Squeeze(smallest, [-2, -1])


def eliminate(matrix, right):
    """The call of the function above."""
    solution, smallest = gauss_jordan(matrix, right)
    return solution, smallest


def scalar_tensor(s: float, dtype: int = -1, layout: str = "", device: str = "", pin_memory: bool = False):
    """A Python number in the precision asked for; the exporter's own rounds to float32."""
    kind = np.dtype(np.float32) if dtype in (-1, 1) else onnx.helper.tensor_dtype_to_np_dtype(dtype)
    return op.Constant(value=onnx.numpy_helper.from_array(np.asarray(s, dtype=kind)))


def erfc(x):
    """1 − erf in float32: its only use is an input channel of the network, and onnxruntime has no other."""
    one = op.Constant(value=onnx.numpy_helper.from_array(np.ones((), dtype=np.float32)))
    return op.CastLike(op.Sub(one, op.Erf(op.Cast(x, to=onnx.TensorProto.FLOAT))), x)


TRANSLATIONS = {
    torch.ops.pihc_zoo.eliminate.default: eliminate,
    torch.ops.aten.scalar_tensor.default: scalar_tensor,
    torch.ops.aten.erfc.default: erfc,
}

"""Makes the tiny networks of the classifier's tests (needs the PyPI package onnx). Run it in this directory.

Each sees a grey image of 8x8 and computes the mean brightness of its left, right, top and bottom half (`features`),
then `logits`, which tests can steer by painting halves.
"""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 8


def halves(channels):
    """[channels * 64, 4]: means of the left, right, top and bottom half, over all channels."""
    matrix = np.zeros((channels, SIDE, SIDE, 4), "f4")
    half = SIDE // 2
    matrix[:, :, :half, 0] = matrix[:, :, half:, 1] = matrix[:, :half, :, 2] = matrix[:, half:, :, 3] = 1
    return matrix.reshape(-1, 4) / (channels * SIDE * half)


def network(file, weights, bias, channels=1, batch="N", poison=False):
    weights, bias = np.array(weights, "f4"), np.array(bias, "f4")
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "halves"], ["features"]),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["plain" if poison else "logits"]),
    ]
    initializers = [
        numpy_helper.from_array(np.array([-1 if batch == "N" else 1, channels * SIDE * SIDE], "i8"), "shape"),
        numpy_helper.from_array(halves(channels), "halves"),
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(bias, "bias"),
    ]
    if poison:
        # log(logit + 100): NaN where a logit is below -100, which an ordinary image never reaches.
        initializers.append(numpy_helper.from_array(np.array(100, "f4"), "hundred"))
        nodes += [helper.make_node("Add", ["plain", "hundred"], ["sum"]), helper.make_node("Log", ["sum"], ["logits"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        file,
        [value("image", TensorProto.FLOAT, [batch, channels, SIDE, SIDE])],
        [
            value("logits", TensorProto.FLOAT, [batch, weights.shape[1]]),
            value("features", TensorProto.FLOAT, [batch, 4]),
        ],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, f"{file}.onnx")


# frontal, lateral, neither: left brighter, right brighter, both dark.
VIEW = [[30, -30, -24], [-30, 30, -24], [0, 0, 0], [0, 0, 0]]
# two categories: top brighter, bottom brighter.
CATEGORY = [[0, 0], [0, 0], [30, -30], [-30, 30]]
network("view", VIEW, [0, 0, 12])
network("view-one-at-a-time", VIEW, [0, 0, 12], batch=1)
network("category", CATEGORY, [0, 0])
network("category-three-channels", CATEGORY, [0, 0], channels=3)
# Not a number as soon as the top is brighter than the bottom by more than 0.5.
network("poisoned", [[0, 0], [0, 0], [-200, 0], [200, 0]], [0, 0], poison=True)
# Four categories of both views: left-top, left-bottom, right-top, right-bottom.
network("all", [[30, 30, -30, -30], [-30, -30, 30, 30], [30, -30, 30, -30], [-30, 30, -30, 30]], [0, 0, 0, 0])

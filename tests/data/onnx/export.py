"""Writes the ONNX files of this folder: tiny networks of torchvision's own code, with random weights, as torch.onnx exports them.

python export.py legacy   with torch==2.5.1 torchvision==0.20.1
python export.py dynamo   with torch==2.9.1 torchvision==0.24.1 onnx onnxscript
"""

import sys

import onnx
import torch
from torch.onnx import TrainingMode
from torchvision.models import DenseNet, MobileNetV3, ResNet
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.resnet import BasicBlock

torch.manual_seed(1)


def mobilenet():
    row = lambda *a: InvertedResidualConfig(*a, 1, 1.0)
    rows = [
        row(8, 3, 8, 8, True, "RE", 2),
        row(8, 3, 16, 8, False, "RE", 1),
        row(8, 5, 24, 16, True, "HS", 2),
    ]
    return MobileNetV3(rows, last_channel=24, num_classes=4)


def resnet():
    """BasicBlocks of 8 to 32 channels: torchvision's ResNet has no parameter for fewer than 64."""
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)
    network.inplanes = 8
    network.conv1 = torch.nn.Conv2d(3, 8, 7, 2, 3, bias=False)
    network.bn1 = torch.nn.BatchNorm2d(8)
    network.layer1 = network._make_layer(BasicBlock, 8, 1)
    network.layer2 = network._make_layer(BasicBlock, 16, 1, stride=2)
    network.layer3 = network._make_layer(BasicBlock, 16, 1, stride=2)
    network.layer4 = network._make_layer(BasicBlock, 32, 1, stride=2)
    network.fc = torch.nn.Linear(32, 4)
    return network


NETWORKS = {
    "mobilenetv3": mobilenet,
    "resnet": resnet,
    "densenet": lambda: DenseNet(4, (2, 2), 8, bn_size=2, num_classes=4),
    "convnext": lambda: ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 2)], layer_scale=0.1, num_classes=4),
}


def randomise(network):
    """Statistics and scales of a network that has been trained are never 0 and 1."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)


def strip(file):
    """Without notes about the lines of Python that nodes came from, and paths in them."""
    model = onnx.load(file)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""
    del model.graph.metadata_props[:], model.metadata_props[:], model.functions[:]
    onnx.save(model, file)


def export(name, network, how, training=TrainingMode.EVAL):
    network = network.eval()
    image = torch.randn(2, 3, 64, 64)
    file = f"{name}.onnx"
    if how == "dynamo":
        torch.onnx.export(network, (image,), file, dynamo=True, input_names=["image"], output_names=["logits"],
                          dynamic_shapes=({0: torch.export.Dim("n", min=2, max=1024)},), external_data=False)
        strip(file)
    else:
        torch.onnx.export(network, image, file, input_names=["image"], output_names=["logits"], opset_version=17,
                          training=training, dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}}, dynamo=False)


if __name__ == "__main__":
    how = sys.argv[1]
    for name, make in NETWORKS.items():
        if how == "dynamo" and name in ("resnet", "convnext"):
            continue  # nothing new, and a mean that torch.export writes as a Gather over pixels
        network = make()
        randomise(network)
        kept = TrainingMode.PRESERVE if name == "resnet" else TrainingMode.EVAL
        export(f"{name}-{how}", network, how, kept)

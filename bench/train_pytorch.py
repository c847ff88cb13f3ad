"""The same training step in PyTorch: torchvision's EfficientNet-B0 at 224 x 224, AdamW, batches of 8 on the CPU.

Run by `make bench-train` where torch and torchvision are installed; prints one JSON object.
"""
import json
import os
import time

import torch
import torchvision

BATCH, STEPS, CLASSES = 8, 4, 5

torch.set_num_threads(len(os.sched_getaffinity(0)))
network = torchvision.models.efficientnet_b0(num_classes=CLASSES).train()
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02)
pictures, classes = torch.rand(BATCH, 3, 224, 224), torch.arange(BATCH) % CLASSES


def step():
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(pictures), classes).backward()
    optimizer.step()


step()
wall, cpu = time.perf_counter(), time.process_time()
for _ in range(STEPS):
    step()
wall, cpu = (time.perf_counter() - wall) / STEPS, (time.process_time() - cpu) / STEPS
print(json.dumps({"torch": torch.__version__, "seconds-a-step": wall, "cpu-seconds-a-step": cpu, "images-a-second": BATCH / wall}))

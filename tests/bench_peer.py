"""One JSON line about a PyTorch model on the CPU that the programs of PEERS do not give: the time of inference
(--what infer), or the physical memory of a training step beyond start-up (--what memory). tests/bench.py runs it."""
import argparse
import json
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--peers", required=True, help="the folder with peer_models.py")
parser.add_argument("--what", required=True, choices=["infer", "memory"])
parser.add_argument("--model", required=True)
parser.add_argument("--variant", default="plain")
parser.add_argument("--format", default="nchw", choices=["nchw", "channels_last"])
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--seconds", type=float, default=1.0)
a = parser.parse_args()
sys.path.insert(0, a.peers)
import peer_models  # noqa: E402

torch.set_num_threads(a.threads)
torch.manual_seed(0)
layout = torch.channels_last if a.format == "channels_last" else torch.contiguous_format
net = peer_models.build(a.model, a.variant, a.format == "channels_last")
if a.model == "qmlp":
    x = torch.randn(a.batch, 784)
else:
    net = net.to(memory_format=layout)
    x = torch.randn(a.batch, 3, 32, 32).contiguous(memory_format=layout)
y = torch.randint(0, 10, (a.batch,))


def status_mib(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name + ":")) / 1024


def timed(step):
    """Milliseconds of each of many steps, after two that warm up; and the page faults of one."""
    step(), step()
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # VmHWM starts anew
    times, begun = [], time.perf_counter()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    while len(times) < 5 or time.perf_counter() - begun < a.seconds:
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    return times, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / len(times)


if a.what == "infer":
    net.eval()

    def step():
        with torch.inference_mode():
            net(x)
else:
    net.train()
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9)

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

start_up = status_mib("VmRSS")
times, faults = timed(step)
record = {"ms": statistics.median(times), "ms_min": min(times), "minor_faults": faults,
          "resident_mib": status_mib("VmHWM") - start_up, "peer": torch.__version__}
if a.what == "memory":  # gradients and momenta, which have come to stay: Parabola's resident bytes leave them out too
    record["lasting_mib"] = sum(p.numel() for p in trained) * 8 / 2**20
print(json.dumps(record))

"""docs/bench.md and its drawings, from the measurements that tests/bench.py leaves in build/bench."""
import json
import os
import statistics
import textwrap
from html import escape

from bench_plot import drawing

PARTS = ["models", "inference", "profiles", "ops", "plots", "memory"]
AXES = {"batch": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512], "image side": [32, 64, 96, 128, 160, 192, 224],
        "rank": [0, 1, 2, 3, 4, 6, 8], "threads": [1, 2]}
REFERENCE = {"batch": 128, "image side": 128}
LOADER_BATCH = 128
LOADER_STEPS = 40
# Of a ConvNeXt-T with adapters, 224x224 images, batch 8: half of what `default` takes at most, and near the least.
POLICIES = ["--checkpoint none", "--checkpoint default", "--checkpoint blocks", "--memory-budget 215MiB",
            "--memory-budget 120MiB"]
OURS = "Parabola"


def model_row(model, batch, policy=""):
    return f"{model}, {batch}" + (f", `{policy}`" if policy else "")


# How many times PyTorch's speed this project asks of itself at least, and what it aims at.
SPEED = {
    model_row("resnet20", 128, "none"): (1.1, 1.5), model_row("qresnet14", 128, "none"): (1.2, 1.6),
    model_row("qresnet14", 128, "default"): (1.0, 1.3), model_row("quadranet_cifar", 128, "default"): (2.3, 3.0),
    model_row("convnext_cifar", 128, "default"): (1.8, 2.5),
    model_row("convnext_cifar, adapters", 128, "default"): (2.7, 3.8), model_row("qmlp", 256, "none"): (1.1, 1.4),
    model_row("qmlp", 256, "default"): None}
INFERENCE_SPEED = (1.3, 2.5)
# Op and sizes of `bench --op`, PyTorch's operator in bench_ops.py, how often ours does that.
PEER_OPS = {
    ("conv2d", "batch 128 of 32x32x64, 3x3 to 64"): ("conv3x3_n128_c64_32", 1),
    ("conv2d", "batch 128 of 32x32x16, 3x3 to 16"): ("conv3x3_n128_c16_32", 1),
    ("conv2d", "batch 128 of 16x16x32, 3x3 to 32"): ("conv3x3_n128_c32_16", 1),
    ("conv2d", "batch 128 of 8x8x64, 3x3 to 64"): ("conv3x3_n128_c64_8", 1),
    ("conv2d", "batch 128 of 16x16x64, 1x1 to 256"): ("conv1x1_n128_c64_256_16", 1),
    ("depthwise_conv2d", "batch 128 of 16x16x64, 7x7"): ("dw7x7_n128_c64_16", 1),
    ("depthwise_conv2d", "batch 32 of 16x16x128, 7x7"): ("dw7x7_n32_c128_16", 1),
    ("depthwise_conv2d", "batch 32 of 16x16x128, 3x3 dilation 3"): ("dw3x3d3_n32_c128_16", 1),
    ("depthwise_conv2d", "batch 32 of 16x16x128, 3x3"): ("dw3x3_n32_c128_16", 1),
    ("quadratic_depthwise_conv2d", "batch 128 of 16x16x64, 7x7, rank 1"): ("dw7x7_n128_c64_16", 3),
    ("linear", "rows 8192, 256 to 1024"): ("linear_8192_256_1024", 1),
    ("linear", "rows 256, 784 to 512"): ("linear_256_784_512", 1),
    ("layer_norm", "rows 32768 of 64"): ("layernorm_32768x64", 1),
    ("batch_norm", "rows 131072 of 64"): ("batchnorm_n128_c64_32", 1),
    ("batch_norm", "rows 131072 of 16"): ("batchnorm_n128_c16_32", 1),
    ("gelu", "[32768, 256]"): ("gelu_8M", 1), ("relu", "[32768, 256]"): ("relu_8M", 1),
    ("adamw", "10 parameters of 500000"): ("adamw_5M", 1)}
# What is asked of an op: a share of the machine's rate, or times PyTorch's speed; one of several will do.
OP_FLOORS = {
    ("quadratic_depthwise_conv2d", "batch 128 of 16x16x64, 7x7, rank 1"): {"of peak": 0.6, "speed": 4.5},
    ("depthwise_conv2d", "batch 32 of 16x16x128, 3x3 dilation 3"): {"backward": 15},
    ("layer_norm", "rows 32768 of 64"): {"of copy": 0.6}, ("batch_norm", "rows 131072 of 64"): {"of copy": 0.6},
    ("batch_norm", "rows 131072 of 16"): {"of copy": 0.6}, ("gelu", "[32768, 256]"): {"of copy": 0.6},
    ("adamw", "10 parameters of 500000"): {"of copy": 0.6},
    **{("conv2d", sizes): {"speed": 0.9} for sizes in (
        "batch 128 of 32x32x16, 3x3 to 16", "batch 128 of 16x16x32, 3x3 to 32", "batch 128 of 32x32x64, 3x3 to 64",
        "batch 128 of 8x8x64, 3x3 to 64")}}


def memory_floor(row):
    return 0.7 if row.startswith("qmlp") else 0.5


class Measured:
    """A part's measurements: medians over its rounds."""

    def __init__(self, path):
        with open(path) as file:
            self.head, *self.lines = map(json.loads, file)
        self.failures = sorted({f"{l['row']}, {l['who']}: {l['failed']}" for l in self.lines if "failed" in l})
        self.lines = [l for l in self.lines if "failed" not in l]
        self.pytorch = self.head["pytorch"]

    def rows(self, prefix=""):
        return list(dict.fromkeys(l["row"] for l in self.lines if l["row"].startswith(prefix)))

    def of(self, row, who):
        return [l for l in self.lines if l["row"] == row and l["who"] == who]

    def median(self, row, who, value):
        """value: a key or a function of a line. None where nothing was measured."""
        values = [value(l) if callable(value) else l[value] for l in self.of(row, who)]
        return statistics.median(values) if values else None

    def best(self, row, version, value, least=min):
        """The setting of a PyTorch with the least median, and that; (None, None) where there is none."""
        settings = dict.fromkeys(l["who"] for l in self.lines if l["row"] == row and l["who"].startswith(version + ","))
        return least(((self.median(row, who, value), who) for who in settings), default=(None, None))[::-1]

    def about(self):
        h = self.head
        words = [f"{h['date']}, commit {h['commit']}; {h['cpu']}, {h['cores']} cores of which {h['threads']} are used, "
                 f"{h['memory_gib']} GiB, huge pages {h['huge_pages']}; medians over {h['rounds']} "
                 f"round{'s' if h['rounds'] > 1 else ''}. Load when it began: {h['load']}."]
        words += [f"No column for {reason}." for reason in h["left_out"]]
        words += [f"**Failed**: {failure}" for failure in self.failures]
        return "\n\n".join(words) + "\n"


def prose(text):
    return textwrap.fill(" ".join(text.split()), 120, break_on_hyphens=False, break_long_words=False) + "\n"


def number(value, digits=2):
    return "-" if value is None else f"{value:,.{digits}f}"


def share(part, whole):
    return "-" if part is None or not whole else f"{100 * part / whole:.0f}%"


def times(value, floor=None):
    """A ratio; bold where it reaches what is asked."""
    text = "-" if value is None else f"{value:.2f}x"
    return f"**{text}**" if value is not None and floor is not None and value >= floor else text


def table(head, rows):
    align = ["---" if i == 0 else "--:" for i in range(len(head))]
    return "".join("| " + " | ".join(map(str, row)) + " |\n" for row in [head, align, *rows])


def ratio(m, row, who, theirs, ours):
    """PyTorch's time over ours: of the medians, with the least and the most of single rounds."""
    pairs = [(a[theirs], b[ours]) for a in m.of(row, who) for b in m.of(row, OURS) if a["round"] == b["round"]]
    if not pairs:
        return None, "-"
    value = m.median(row, who, theirs) / m.median(row, OURS, ours)
    each = [a / b for a, b in pairs]
    return value, f"{times(value)} ({min(each):.2f} to {max(each):.2f})"


def speeds(m, floors):
    """Rows of models: our time, and each PyTorch's best setting with the ratio."""
    machine = m.of("machine", OURS)
    peak = max((l["most_flops_per_second"] for l in machine), default=None)
    head = ["row", "Parabola ms", *(["of peak"] if peak else [])]
    head += [word for p in m.pytorch for word in (p + " ms", "its best setting", "ratio")] + ["floor / aim", "reached"]
    rows = []
    for row in (r for r in m.rows() if r != "machine"):
        ms = m.median(row, OURS, "step_ms_median")
        cells = [row, number(ms)]
        if peak:
            cells.append(share(m.median(row, OURS, lambda l: l["flops"] / l["step_ms_median"] * 1e3), peak))
        values = []
        for version in m.pytorch:
            who, theirs = m.best(row, version, "ms")
            value, text = ratio(m, row, who, "ms", "step_ms_median")
            values.append(value)
            cells += [number(theirs), (who or "-").removeprefix(version + ", "), text]
        known = [v for v in values if v is not None]
        if not floors(row) or not known:
            rows.append(cells + ["-" if not floors(row) else "{} / {}".format(*floors(row)), "-"])
            continue
        floor, aim = floors(row)
        reached = "aim" if min(known) >= aim else "floor" if (values[0] or 0) >= floor else "no"
        rows.append(cells + [f"{floor} / {aim}", reached])
    return table(head, rows)


def render_models(m):
    yield prose("""Forward, cross-entropy, backward and SGD with momentum on a batch that lies ready. `none` keeps all
        that backward reads, as PyTorch does; `default` recomputes what is cheap, and quadratic layers keep x only.
        qmlp's floor is of `none`: it follows from the work of that step, 2.5 GFLOP. Shares of peak count the
        multiply-adds of the definitions; 3x3 convolutions of stride 1, but for the first layer's, take a quarter of them
        (Winograd's algorithm), so those shares may be above 100%.""")
    yield speeds(m, SPEED.__getitem__)
    yield prose("""How far apart the two are depends on the processor. On 2 cores of Zen 4 (one 512-bit multiply-add a cycle;
        Intel's and Zen 5's have two) commit aadffe9 of 2026-11-27 had reached 1.74 times PyTorch 1.13's speed on
        resnet20, 1.78 on qresnet14, 1.91 on convnext_cifar and 1.11 on qmlp, but 2.07 on quadranet_cifar and 2.54 with
        adapters, below their floors; later commits were not measured there.""")


def render_profiles(m):
    """What most of each step is spent on."""
    yield prose("""The steps of above by `bench --profile`, means of a run: the kernels that take 4% of one or more. "Of its
        bound": the time in which the ceilings of the machine allow the kernel, flops by definition, as a share of the
        time that it takes; so the rest is what better code could save, and what a processor with more flops a byte
        would show.""")
    rows = []
    for row in m.rows():
        lines = m.of(row, OURS)
        kernels = {k: (statistics.median(l["kernels"][k][0] for l in lines),
                       statistics.median(l["kernels"][k][1] for l in lines))
                   for k in lines[0]["kernels"] if all(k in l["kernels"] for l in lines)}
        whole = sum(ms for ms, _ in kernels.values())
        for kernel, (ms, least) in sorted(kernels.items(), key=lambda item: -item[1][0]):
            if ms >= 0.04 * whole:
                rows.append([row, f"`{kernel}`", number(ms, 1), share(ms, whole), share(least, ms)])
                row = ""
        rest = [of for of in kernels.values() if of[0] < 0.04 * whole]
        ms, least = (sum(values) for values in zip(*rest))
        rows.append(["", f"{len(rest)} others", number(ms, 1), share(ms, whole), share(least, ms)])
    yield table(["row", "kernel", "ms", "of the kernels", "of its bound"], rows)


def render_inference(m):
    yield prose("The forward pass in evaluation mode; PyTorch's is eager, in `inference_mode`.")
    yield speeds(m, lambda row: INFERENCE_SPEED)


def peer_op(m, key, version, value):
    """Milliseconds of PyTorch's operator in its better memory format; None where there is none."""
    name, count = PEER_OPS.get(key, (None, 0))
    found = {}
    for line in m.of("ops", version):
        if name and (line["op"] == name or line["op"] == name + "_foreach") and "fwd_ms" in line:
            found.setdefault((line["op"], line["format"]), []).append(value(line))
    return count * min(map(statistics.median, found.values())) if found else None


def render_ops(m):
    ours = {}
    for line in m.of("ops", OURS):
        ours.setdefault((line["op"], line["sizes"]), []).append(line)
    middle = {key: lambda value, lines=lines: statistics.median(map(value, lines)) for key, lines in ours.items()}
    whole, forward = (lambda l: l.get("fwdbwd_ms", l["fwd_ms"])), (lambda l: l["fwd_ms"])
    values = {}
    for key, of in middle.items():
        v = values[key] = {
            "of peak": of(lambda l: l["flops"] / l["step_ms_median"] * 1e3 / l["most_flops_per_second"]),
            "of copy": of(lambda l: l["bytes_per_second"] / l["most_bytes_per_second"])}
        both, backward = of(lambda l: l["step_ms_median"]), of(lambda l: l["backward_ms_median"] or 0)
        for version in m.pytorch:
            theirs = peer_op(m, key, version, whole)
            v[version] = theirs
            if theirs and version == m.pytorch[0]:
                v["speed"] = theirs / both
                v["backward"] = peer_op(m, key, version, lambda l: whole(l) - forward(l)) / (backward or both)
    flops, bytes_ = ([l[k] / 1e9 for l in m.of("ops", OURS)] or [0]
                     for k in ("most_flops_per_second", "most_bytes_per_second"))
    yield prose(f"""Each op alone, forward and backward with all gradients. Shares are of ceilings measured in the same
        run: {min(flops):.0f} to {max(flops):.0f} GFLOP/s of multiply-adds, {min(bytes_):.1f} to {max(bytes_):.1f} GB/s
        of a copy, bytes read and written both counted (a virtual machine may move between processors that share a cache
        and ones that have two ways to memory). An op's bytes are the least that it must move; what lies in a cache
        moves faster than a copy of main memory. Multiply-adds are those of the definition; Winograd's algorithm takes
        a quarter of a 3x3 convolution's.""")
    asked = []
    names = {"of peak": "{:.0%} of peak", "of copy": "{:.0%} of a copy's rate", "speed": "{:.2f}x PyTorch",
             "backward": "backward {:.1f}x PyTorch's"}
    for key, floors in OP_FLOORS.items():
        v = values.get(key, {})
        got = [(name, v.get(name), floor) for name, floor in floors.items()]
        reached = "-" if all(g is None for _, g, _ in got) else \
            "yes" if any(g is not None and g >= floor for _, g, floor in got) else "no"
        asked.append([f"`{key[0]}`, {key[1]}", ", ".join("-" if g is None else names[n].format(g) for n, g, _ in got),
                      " or ".join(names[n].format(floor) for n, _, floor in got), reached])
    yield table(["op", "measured", "floor", "reached"], asked)
    short = [(key, values[key]["of copy"]) for key, row in zip(OP_FLOORS, asked) if row[-1] == "no"]
    for (name, sizes), rate in short:
        yield prose(f"""`{name}`, {sizes}: below its floor, at {rate:.0%} of a copy's rate. Where that is above 100% it
            waits for the last level of cache or main memory, not for arithmetic.""")
    yield prose("""Backward is timed by itself, after a forward pass that does not count; PyTorch's is what both take less
        what forward takes. PyTorch's is the better of its memory formats; beside the quadratic depthwise op, three of
        its convolutions.""")
    yield table(["op", "forward ms", "backward ms", "both ms", "of peak", "of a copy",
                 *[w for p in m.pytorch for w in (p + " ms", "ratio")]],
                [[f"`{key[0]}`, {key[1]}", number(of(lambda l: l["forward_ms_median"]), 3),
                  number(of(lambda l: l["backward_ms_median"] or 0) or None, 3),
                  number(of(lambda l: l["step_ms_median"]), 3), f"{values[key]['of peak']:.0%}",
                  f"{values[key]['of copy']:.0%}",
                  *[w for p in m.pytorch for w in (number(values[key][p], 3), times(
                      values[key][p] and values[key][p] / of(lambda l: l["step_ms_median"])))]]
                 for key, of in middle.items()])


def expected(axis, of, value, points):
    """Of a cost that is proportional to the images or pixels, or linear in the rank."""
    if axis == "rank":
        low, high = points[0], points[-1]
        return of(low) + (of(high) - of(low)) * (value - low) / (high - low)
    unit = (lambda v: v * v) if axis == "image side" else (lambda v: v)
    return of(REFERENCE[axis]) * unit(value) / unit(REFERENCE[axis])


class Curve:
    """One net along one axis."""

    def __init__(self, m, axis, net):
        self.m, self.axis, self.net = m, axis, net
        self.points = [v for v in AXES[axis] if m.of(self.row(v), OURS)]

    def row(self, value):
        return f"{self.axis}|{self.net}|{value}"

    def ms(self, value):
        return self.m.median(self.row(value), OURS, "step_ms_median")

    def least(self, value):
        return self.m.median(self.row(value), OURS, lambda l: sum(least for _, least in l["kernels"].values()))

    def mib(self, value):
        return self.m.median(self.row(value), OURS, lambda l: l["peak_activation_bytes"] / 2**20)

    def kernels(self, value):
        lines = self.m.of(self.row(value), OURS)
        found = {k: statistics.median(l["kernels"][k][0] for l in lines) for k in lines[0]["kernels"]
                 if all(k in l["kernels"] for l in lines)}
        found["between kernels"] = self.ms(value) - sum(found.values())
        return found

    def reason(self, value, relative):
        """Which kernels are furthest from what is expected of them, in the direction that the whole is."""
        if abs(relative - 1) <= 0.2:
            return ""
        off = {}
        for kernel in self.kernels(value):
            off[kernel] = self.kernels(value)[kernel] - expected(
                self.axis, lambda v, k=kernel: self.kernels(v).get(k, 0), value, self.points)
        sign = 1 if relative > 1 else -1
        worst = [k for k in sorted(off, key=lambda k: -sign * off[k])[:2] if sign * off[k] > 0]
        return ", ".join(f"{k} {off[k]:+.2f} ms" for k in worst)

    def table(self):
        if self.axis == "threads":
            one = self.points[0]
            return table(["threads", "ms", "speed-up", "the roofline's", "peak MiB"],
                         [[v, number(self.ms(v)), times(self.ms(one) / self.ms(v)),
                           times(self.least(one) / self.least(v)), number(self.mib(v), 1)] for v in self.points])
        rows = []
        for v in self.points:
            relative, bound = (of(v) / expected(self.axis, of, v, self.points) for of in (self.ms, self.least))
            rows.append([v, number(self.ms(v)), number(relative), number(self.least(v)), number(bound),
                         number(self.mib(v), 1), self.reason(v, relative)])
        head = ["ms", "of linear", "roofline ms", "of linear", "peak MiB", "furthest from linear"]
        return table([self.axis, *head], rows)


def render_plots(m):
    reference = " and ".join(f"{axis} {value}" for axis, value in REFERENCE.items())
    yield prose(f"""`default` policy, a training step. "Of linear": over what a cost would be that is proportional to
        images and pixels, from the row of {reference}, or that lies on the line between the lowest and the highest
        rank. Roofline: the sum of what each kernel needs at least at the measured ceilings, for the flops of the
        definitions (3x3 convolutions take fewer, so qresnet14 can be below it). Where a step is more than
        a fifth off, the two kernels that are furthest off in its direction say why; "between kernels" is what the
        tape, the layers and the allocation take. A few images pay in full for what does not depend on their number:
        weights are transformed and packed for the products, partial sums of their gradients added up, threads woken for
        each kernel.""")
    for axis in AXES:
        nets = list(dict.fromkeys(r.split("|")[1] for r in m.rows(axis + "|")))
        curves = [c for c in (Curve(m, axis, net) for net in nets) if len(c.points) > 1]
        if not curves:
            continue
        yield f"### {axis.capitalize()}\n"
        if axis != "threads":
            yield f"![cost against {axis}](bench-{axis.replace(' ', '-')}.svg)\n"
        for curve in curves:
            yield f"`{curve.net}`\n\n" + curve.table()
    yield from render_policies(m)
    yield from render_loader(m)
    yield from render_neighbour(m)


def render_policies(m):
    yield "### Policies and budgets\n"
    yield prose("""`convnext_tiny` with adapters of rank 2, 224x224 images, batch 8. Replayed: what is computed again,
        over the step's work. What other nets keep is in [memory.md](memory.md).""")
    first, rows = m.median("policy|" + POLICIES[0], OURS, "step_ms_median"), []
    for row in m.rows("policy|"):
        ms = m.median(row, OURS, "step_ms_median")
        rows.append([f"`{row.split('|')[1]}`", number(ms), times(ms / first if first else None),
                     number(m.median(row, OURS, lambda l: l["peak_activation_bytes"] / 2**20), 1),
                     number(m.median(row, OURS, lambda l: l.get("resident_bytes", float("nan")) / 2**20), 1),
                     share(m.median(row, OURS, "replay_flops"), m.median(row, OURS, "flops"))])
    yield table(["policy", "ms", "of `none`", "peak MiB", "resident MiB", "replayed"], rows)


def render_loader(m):
    yield "### The loader\n"
    yield prose(f"""A step of `train` on Fashion-MNIST with random crops and flips, {LOADER_STEPS} steps a pass, against
        the same step on a batch that lies ready plus the CPU time of the loader's threads, spread over all threads,
        plus 3%.""")
    rows = []
    for row in m.rows("loader|"):
        step, train = m.median(row, "synthetic", "step_ms_median"), m.median(row, "train", "step_ms_median")
        loader = m.median(row, "train", "loader_cpu_ms")
        if None in (step, train, loader):
            continue
        most = 1.03 * (step + loader / m.head["threads"])
        rows.append([row.split("|")[1], number(train), number(step), number(loader), number(most),
                     "yes" if train <= most else "no"])
    yield table([f"model, batch {LOADER_BATCH}", "step of train, ms", "synthetic, ms", "loader's CPU ms", "at most ms",
                 "within"], rows)


def render_neighbour(m):
    threads, cores = m.head["threads"], m.head["cores"]
    fair = max(1, (threads + 1) / cores)
    yield "### Beside a busy neighbour\n"
    yield prose(f"""`resnet20`, batch 128: the same step beside a process that keeps one core busy. A fair share of
        {cores} cores for {threads} threads of {threads + 1} is a step {fair:.2f} times as long.""")
    rows = []
    for who in [OURS, *m.pytorch]:
        key = "step_ms_median" if who == OURS else "ms"
        alone, busy = (m.median("neighbour|" + how, who, key) for how in ("alone", "busy"))
        rows.append([who, number(alone), number(busy), times(busy / alone if alone and busy else None)])
    yield table(["", "alone, ms", "beside it, ms", "slower"], rows)


def render_memory(m):
    yield prose("""Physical memory that steps hold at most beyond start-up (interpreter, libraries, net and batch),
        without gradients of parameters and momenta, which both keep: MiB. PyTorch's is the least of its settings.
        Faults: pages touched for the first time, per step, after the second step.""")
    head = ["row", "Parabola", "of it accounted"] + [w for p in m.pytorch for w in (p, "share")] + \
           ["at most", "within", "faults", *["faults, " + p for p in m.pytorch]]
    rows = []
    for row in (r for r in m.rows() if r not in ("machine", "equality")):
        ours = m.median(row, OURS, lambda l: l.get("resident_bytes", float("nan")) / 2**20)
        found = [m.best(row, p, lambda l: l["resident_mib"] - l["lasting_mib"])[::-1] for p in m.pytorch]
        cells = [row, number(ours, 1), number(m.median(row, OURS, lambda l: l["peak_activation_bytes"] / 2**20), 1)]
        cells += [w for theirs, _ in found for w in (number(theirs, 1), share(ours, theirs))]
        most = memory_floor(row)
        within = "-" if not found or None in (ours, found[0][0]) else "yes" if ours <= most * found[0][0] else "no"
        rows.append(cells + [f"{most:.0%}", within, number(m.median(row, OURS, "minor_faults"), 1),
                             *[number(m.median(row, who, "minor_faults"), 0) for _, who in found]])
    yield table(head, rows)
    equality = m.of("equality", OURS)
    if not equality:
        yield "Equal bits under every policy and budget were not checked.\n"
    else:
        yield prose(f"""Weights, statistics and optimizer state after {equality[0]["steps"]} steps of `qresnet14` and
            `quadranet_cifar` at batch 128 are the same bits under `none`, `default`, `blocks`, and `auto` at five
            budgets down to the smallest.""")


TITLES = {"models": "Training steps", "inference": "Inference", "profiles": "Where the time goes", "ops": "Ops",
          "plots": "How cost grows", "memory": "Memory"}
RENDER = {"models": render_models, "inference": render_inference, "profiles": render_profiles, "ops": render_ops,
          "plots": render_plots, "memory": render_memory}


def render(folder, page):
    """Writes the page and its drawings from what is in the folder; returns their paths."""
    about = prose("""What `make bench` measured, float32 on the CPU. PyTorch is set up as a careful user has it: freed
        memory stays in the heap, huge pages, one thread pool; of its memory formats (nchw, channels_last) and, for
        dense quadratic layers, ways to write the net (three layers; one layer of three times the outputs: fused3) the
        fastest counts. Ours and each of its settings take turns in rounds, each in a process of its own (but no setting
        again that took over 1.5 times the best one's time in the first round). Ratio:
        PyTorch's time over ours, in brackets the least and the most of single rounds. Floor and aim are what this
        project asks of itself, a floor against the first PyTorch of a table, an aim against all. Each part says when and on what it was measured;
        compare within a part.""")
    text = ["# Speed and memory, beside PyTorch\n", about]
    written = [page]
    for part in PARTS:
        path = os.path.join(folder, part + ".jsonl")
        text.append(f"## {TITLES[part]}\n")
        if not os.path.exists(path):
            text.append(f"Not measured yet: `make bench PART={part}`.\n")
            continue
        measured = Measured(path)
        text += [measured.about(), *RENDER[part](measured)]
        if part != "plots":
            continue
        for axis in [a for a in AXES if a != "threads"]:
            nets = list(dict.fromkeys(r.split("|")[1] for r in measured.rows(axis + "|")))
            curves = [c for c in (Curve(measured, axis, net) for net in nets) if len(c.points) > 1]
            if curves:
                written.append(os.path.join(os.path.dirname(page), f"bench-{axis.replace(' ', '-')}.svg"))
                with open(written[-1], "w") as file:
                    file.write(drawing(axis, curves, escape))
    with open(page, "w") as file:
        file.write("\n".join(text))
    return written

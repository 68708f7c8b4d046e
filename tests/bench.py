#!/usr/bin/env python3
"""make bench: Parabola beside PyTorch on the CPU of this machine; docs/bench.md is rendered from what it measures.

    tests/bench.py PART --peers DIR --python PYTHON --newest PYTHON --rounds N

PART is models, inference, profiles, ops, plots, memory, all, or page, which measures nothing. Rows are measured in rounds, in
each of which ours and every setting of PyTorch take turns, each in a process of its own; a setting that the first
round shows to be no match for another one is left out of the later ones. A part leaves its
measurements as JSON lines in build/bench/PART.jsonl once it is through; the page is rendered from the files that are
there, so a part can be measured again by itself.
"""
import argparse
import collections
import datetime
import functools
import json
import os
import platform
import subprocess
import sys
import sysconfig
import time

sys.dont_write_bytecode = True  # before what lies beside this file
import bench_report  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN, OUT = os.path.join(ROOT, "build/bin/"), os.path.join(ROOT, "build/bench")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}

# What is measured of one row in every round: `action` returns records, which `also` gets too. once: in the first round
# only.
Job = collections.namedtuple("Job", "row who action once also", defaults=[False, ()])
NO_MATCH = 1.5  # times the best setting's time, in the first round
OURS = "Parabola"

# Name, flags of `bench`, the peer's model, batch.
Model = collections.namedtuple("Model", "name flags peer batch")
ADAPTERS = ["--adapt", "--rank", "1", "--kernel", "3", "--dilation", "3"]
MODELS = [
    Model("resnet20", ["--model", "resnet20"], "resnet20", 128),
    Model("qresnet14", ["--model", "qresnet14"], "qresnet14", 128),
    Model("quadranet_cifar", ["--model", "quadranet_cifar"], "quadranet_cifar", 128),
    Model("convnext_cifar", ["--model", "convnext_cifar"], "convnext_cifar", 128),
    Model("convnext_cifar, adapters", ["--model", "convnext_cifar", *ADAPTERS], "convnext_cifar_adapters", 128),
    Model("qmlp", ["--model", "qmlp"], "qmlp", 256),
]
# Which of the policies are rows: all that backward reads, and our default, which has the quadratic layers keep x only.
POLICIES = {"resnet20": ["none"], "qresnet14": ["none", "default"], "qmlp": ["none", "default"]}


class Failed(Exception):
    pass


def run(command, environment=None, cwd=OUT):
    """The JSON lines that a program writes; kernels of a profile become a key of its result."""
    process = subprocess.run(command, env={**ENVIRONMENT, **(environment or {})}, cwd=cwd, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if process.returncode:
        words = (process.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
        raise Failed(f"{' '.join(command[:4])} ...: exit code {process.returncode}: {words}")
    records = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    kernels = {r["kernel"]: [r["ms"], r["least_ms"]] for r in records if r.get("event") == "kernel"}
    records = [r for r in records if r.get("event") != "kernel"]
    if kernels:
        records[-1]["kernels"] = kernels
    return records


class PyTorch:
    """One interpreter with PyTorch, in the environment of a careful user."""

    def __init__(self, python, version, folder):
        self.python, self.version, self.folder = python, version, folder
        self.name = "PyTorch " + version
        # As run_peers.py sets it: freed memory stays in the heap, huge pages, and one thread pool instead of two.
        openmp = os.path.join("/usr/lib", sysconfig.get_config_var("MULTIARCH") or "", "openblas-openmp")
        paths = [openmp] if os.path.isdir(openmp) else []
        self.environment = {
            "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_MMAP_THRESHOLD_": "8589934592",
            "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456",
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
            "LD_LIBRARY_PATH": ":".join(paths + [p for p in [os.environ.get("LD_LIBRARY_PATH")] if p])}

    def run(self, script, *flags):
        return run([self.python, script, *map(str, flags)], self.environment, self.folder)

    def peer(self, what, model, variant, layout, batch, threads):
        """A program of PEERS for a training step, ours for what those lack."""
        flags = ["--model", model, "--variant", variant, "--format", layout, "--batch", batch, "--threads", threads]
        if what == "train":
            return self.run("bench_models.py", *flags, "--seconds", 2)
        return self.run(os.path.join(ROOT, "tests/bench_peer.py"), "--peers", self.folder, "--what", what, *flags)


def settings_of(peer):
    """Variants and memory formats of a peer's model that may be its best."""
    variants = ["plain", "fused3"] if peer in ("qresnet14", "qmlp") else ["plain"]
    layouts = ["nchw"] if peer == "qmlp" else ["nchw", "channels_last"]
    return [(variant, layout) for variant in variants for layout in layouts]


class Bench:
    def __init__(self, options):
        self.options, self.threads = options, str(options.threads)
        self.pytorches, self.left_out = find_pytorches(options)

    def ours(self, *flags):
        return run([BIN + "bench", *flags, "--threads", self.threads, "--json", "-"])

    def peers(self, rows, model, what, batch):
        for pytorch in self.pytorches:
            for variant, layout in settings_of(model.peer):
                who = ", ".join([pytorch.name, layout] + ([variant] if variant != "plain" else []))
                yield Job(rows[0], who, functools.partial(pytorch.peer, what, model.peer, variant, layout, batch,
                                                          self.threads), also=rows[1:])

    def ceilings(self):
        """What the machine does at most, as a record of any op says it."""
        return Job("machine", OURS, functools.partial(self.ours, "--op", "cross_entropy", "--batch", "1"))

    # ---- The parts: their jobs in the order of one round
    def models(self, what="train"):
        yield self.ceilings()
        for model in MODELS:
            policies = POLICIES.get(model.name, ["default"])
            rows = [bench_report.model_row(model.name, model.batch, policy) for policy in policies]
            for row, policy in zip(rows, policies):
                yield Job(row, OURS, functools.partial(self.ours, *model.flags, "--batch", str(model.batch),
                                                       "--checkpoint", policy))
            yield from self.peers(rows, model, what, model.batch)

    def profiles(self):
        for model in MODELS:
            for policy in POLICIES.get(model.name, ["default"]):
                yield Job(bench_report.model_row(model.name, model.batch, policy), OURS, functools.partial(
                    self.ours, *model.flags, "--batch", str(model.batch), "--checkpoint", policy, "--profile"))

    def inference(self):
        for model in MODELS:
            for batch in (1, 64):
                row = bench_report.model_row(model.name, batch)
                yield Job(row, OURS, functools.partial(self.ours, *model.flags, "--mode", "infer", "--batch",
                                                       str(batch)))
                yield from self.peers([row], model, "infer", batch)

    def ops(self):
        yield Job("ops", OURS, functools.partial(self.ours, "--op", "all"))
        for pytorch in self.pytorches:
            yield Job("ops", pytorch.name, functools.partial(pytorch.run, "bench_ops.py", "--threads", self.threads))

    def plots(self):
        nets = {m.name: m.flags for m in MODELS if m.name in ("qresnet14", "convnext_cifar, adapters")}
        for axis, values in bench_report.AXES.items():
            for value in values:
                for name, flags in nets.items():
                    if axis == "rank" and name == "qresnet14":
                        continue
                    yield Job(f"{axis}|{name}|{value}", OURS, functools.partial(self.point, axis, value, flags))
        for policy in bench_report.POLICIES:
            yield Job("policy|" + policy, OURS, functools.partial(
                self.ours, "--model", "convnext_tiny", "--adapt", "--batch", "8", *policy.split()))
        for name in ("resnet20", "qresnet14"):
            yield Job("loader|" + name, "synthetic",
                      functools.partial(self.ours, "--model", name, "--batch", str(bench_report.LOADER_BATCH)))
            yield Job("loader|" + name, "train", functools.partial(self.train, name))
        yield from self.neighbour()

    def point(self, axis, value, flags):
        at = {"batch": 32, "image side": 32, "threads": self.threads}
        at[axis] = value
        if axis == "image side":
            at["batch"] = 16
        if axis == "rank":
            at["batch"] = 128
            # Rank 0: the classifier alone gets an adapter, of next to no work; the rest is frozen as in the others.
            adapters = ["--rank", str(value)] if value else ["--match", "head", "--rank", "1"]
            flags = ["--model", "convnext_cifar", "--adapt", *adapters]
        return run([BIN + "bench", *flags, "--batch", str(at["batch"]), "--image-size", str(at["image side"]),
                    "--profile", "--threads", str(at["threads"]), "--json", "-"])

    def train(self, model):
        """Milliseconds of a step of `train` after its first epoch, and the CPU time of the loader's threads per batch:
        of all threads but the main one and the engine's, which have the most, over the batches of training and of
        evaluation; these are not augmented, so it is rather less than a training batch takes."""
        folder, batch = os.path.join(OUT, "loader"), bench_report.LOADER_BATCH
        images = str(bench_report.LOADER_STEPS * batch)
        command = [BIN + "train", "--model", model, "--data", "fashion-mnist", "--augment", "crop,flip",
                   "--limit", images, "--batch", str(batch), "--epochs", "3", "--optimizer", "sgd",
                   "--momentum", "0.9", "--lr", "0.0001", "--threads", self.threads, "--out", folder, "--force"]
        process = subprocess.Popen(command, env=ENVIRONMENT, cwd=OUT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        used, tasks = {}, f"/proc/{process.pid}/task"
        while process.poll() is None:
            for thread in os.listdir(tasks) if os.path.isdir(tasks) else []:
                try:
                    with open(f"{tasks}/{thread}/stat") as stat:
                        fields = stat.read().rsplit(")", 1)[1].split()
                    used[thread] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                except OSError:
                    pass  # it has ended
            time.sleep(0.1)
        if process.returncode:
            raise Failed("train: " + process.stderr.read().decode().strip())
        with open(os.path.join(folder, "log.jsonl")) as log:
            epochs = [r for r in map(json.loads, log) if r.get("event") == "epoch"]
        steps = epochs[-1]["steps"] - epochs[0]["steps"]
        batches = 2 * epochs[-1]["steps"]  # with those of the evaluations, which are as many
        loader = sum(sorted(used.values())[:-self.options.threads])
        return [{"step_ms_median": 1e3 * (epochs[-1]["seconds"] - epochs[0]["seconds"]) / steps,
                 "loader_cpu_ms": 1e3 * loader / batches}]

    def neighbour(self):
        """A step alone, and beside a process that keeps one core busy."""
        resnet = MODELS[0]
        kinds = [(OURS, functools.partial(self.ours, *resnet.flags, "--batch", str(resnet.batch), "--checkpoint",
                                          "none"))]
        kinds += [(p.name, functools.partial(p.peer, "train", resnet.peer, "plain", "channels_last", resnet.batch,
                                             self.threads)) for p in self.pytorches]

        def busy(action):
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            try:
                return action()
            finally:
                other.kill()
                other.wait()

        for who, action in kinds:
            yield Job("neighbour|alone", who, action)
            yield Job("neighbour|busy", who, functools.partial(busy, action))

    def memory(self):
        yield from self.models("memory")
        yield Job("equality", OURS, self.equality, once=True)

    def equality(self):
        """20 steps under every policy and five budgets, compared bit for bit by the test that does it with two."""
        counts = os.path.join(OUT, "equality-counts")
        run([BIN + "tests", "--test-case=budget: nets of full size*"],
            {"PARABOLA_STEPS": "20", "PARABOLA_TEST_COUNTS": counts}, ROOT)
        with open(counts) as file:
            passed, failed, skipped = map(int, file.read().split())
        if (passed, failed, skipped) != (1, 0, 0):
            raise Failed(f"the test of equal bits: {passed} passed, {failed} failed, {skipped} skipped")
        return [{"steps": 20}]

    # ---- Running them
    def measure(self, part):
        """The jobs of a part in rounds; its file appears when all are through."""
        rounds = self.options.rounds
        jobs = list(getattr(self, part)())
        path = os.path.join(OUT, part + ".jsonl")
        runs = [(r, i) for r in range(rounds) for i, job in enumerate(jobs) if not (r and job.once)]
        took, first = {}, {}
        with open(path + ".new", "w") as file:
            left_out = self.left_out if part != "profiles" else []  # which is of ours alone
            head = {"rounds": rounds, "left_out": left_out, "pytorch": [p.name for p in self.pytorches]}
            file.write(json.dumps({"part": part, **head, **machine(self.options.threads)}) + "\n")
            for number, (r, i) in enumerate(runs):
                job, begun = jobs[i], time.monotonic()
                rivals = [ms for j, ms in first.items() if self.rival(jobs[j], job)]
                if r and i in first and first[i] > NO_MATCH * min(rivals):
                    took[i] = 0
                    continue
                try:
                    records = job.action()
                except Failed as failure:
                    records = [{"failed": str(failure)}]
                took[i] = time.monotonic() - begun
                for row in (job.row, *job.also):
                    for record in records:
                        file.write(json.dumps({"row": row, "who": job.who, "round": r, **record}) + "\n")
                file.flush()
                usual = sum(took.values()) / len(took)
                left = sum(took.get(j, usual) for _, j in runs[number + 1:])
                last = records[-1]
                ms = last.get("step_ms_median", last.get("ms"))
                if not r and ms is not None and len(records) == 1:
                    first[i] = ms
                what = last.get("failed") or ("done" if ms is None or len(records) > 1 else f"{ms:.2f} ms")
                print(f"{part} {number + 1}/{len(runs)}, {left / 60:.0f} min left: {job.row}, {job.who}: {what}",
                      flush=True)
        os.replace(path + ".new", path)

    @staticmethod
    def rival(one, other):
        """Settings of the same PyTorch in the same row."""
        return one.row == other.row and one.who.split(",")[0] == other.who.split(",")[0]


def find_pytorches(options):
    """The interpreters with PyTorch, and why others are left out."""
    found, left_out = [], []
    for variable, python in (("PYTHON", options.python), ("PYTHON_NEWEST", options.newest)):
        if not os.path.exists(os.path.join(options.peers, "bench_models.py")):
            left_out.append(f"{variable}: PEERS has no bench_models.py")
        elif not python:
            left_out.append(f"{variable}: not given")
        else:
            probe = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True) if os.path.exists(python) else None
            if probe is None or probe.returncode:
                left_out.append(f"{variable}: " + ("no such interpreter" if probe is None else "it has no torch"))
            elif probe.stdout.strip() not in [p.version for p in found]:
                found.append(PyTorch(python, probe.stdout.strip(), os.path.abspath(options.peers)))
    return found, left_out


def machine(threads):
    """What a reader has to know of where and when the figures were taken."""
    def text(path, default=""):
        try:
            with open(path) as file:
                return file.read()
        except OSError:
            return default

    names = [line.split(":")[1].strip() for line in text("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    cpu = names[0] if names else platform.machine()
    huge = text("/sys/kernel/mm/transparent_hugepage/enabled", "[unknown]")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True).stdout.strip()
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), "commit": commit or "unknown",
            "cpu": cpu, "cores": os.cpu_count(), "threads": threads, "load": round(os.getloadavg()[0], 1),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "huge_pages": huge[huge.find("[") + 1:huge.find("]")]}


def main():
    parser = argparse.ArgumentParser(description="see make bench in make help")
    parser.add_argument("part", choices=[*bench_report.PARTS, "all", "page"])
    parser.add_argument("--peers", default=os.path.join(ROOT, "../shared/peers"))
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--newest", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", default=os.path.join(ROOT, "docs/bench.md"))
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 1:
        parser.error("ROUNDS: expected a whole number from 1")
    os.makedirs(OUT, exist_ok=True)
    if options.part != "page":
        bench = Bench(options)
        for reason in bench.left_out:
            print("no column of PyTorch for " + reason)
        for part in bench_report.PARTS if options.part == "all" else [options.part]:
            bench.measure(part)
    print("wrote " + " ".join(bench_report.render(OUT, options.page)))


if __name__ == "__main__":
    main()

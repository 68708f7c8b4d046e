"""Golden values from PyTorch: whole nets and single operations that Parabola's tests compare with.

    python3 tests/golden/make_golden.py        # needs torch, numpy, safetensors; CPU, about 5 seconds

Writes every *.safetensors beside this file; README.md there says what is in them. The nets are plain
compositions under autograd, written from the formulas, so they share nothing with the engine they check.
All draws come from fixed seeds. The script also asserts what makes the values fit for comparison: the
hand-derived quadratic gradients agree with autograd (golden_ops.py), full-size nets have the known parameter
counts, no ReLU sits at its kink, and the ten optimizer steps do not amplify rounding.
"""
import functools
import json
import math
import pathlib
import re

import safetensors.torch
import torch
import torch.nn as nn
import torch.nn.functional as F

import golden_ops

HERE = pathlib.Path(__file__).resolve().parent
CLASSES, BATCH, STEPS = 10, 4, 10
ADAMW = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)


# ---------------------------------------------------------------- quadratic layers
def sum_ranks(products, rank):
    """Sum over j of the channels c*rank + j (dimension 1)."""
    return products.unflatten(1, (-1, rank)).sum(2)


class NormedQuadraticConv(nn.Module):
    """QuadraLib's layer: y = BN(conv_a x) * BN(conv_b x) + BN(conv_c x)."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        for term in "abc":
            setattr(self, f"conv_{term}", nn.Conv2d(cin, cout, 3, stride, 1, bias=False))
            setattr(self, f"bn_{term}", nn.BatchNorm2d(cout))

    def forward(self, x):
        a, b, c = self.bn_a(self.conv_a(x)), self.bn_b(self.conv_b(x)), self.bn_c(self.conv_c(x))
        return a * b + c


class Quadratic(nn.Module):
    """y = a(x) * b(x) + c(x), with three maps of the same shape."""

    def __init__(self, a, b, c):
        super().__init__()
        self.a, self.b, self.c = a, b, c

    def forward(self, x):
        return self.a(x) * self.b(x) + self.c(x)


class DepthwiseAdapter(nn.Module):
    """scale * sum_j A_j(x) * B_j(x), depthwise 3x3 with dilation 3; weight channel c*rank + j."""

    def __init__(self, channels, rank=2):
        super().__init__()
        self.rank, self.scale = rank, 1 / rank
        self.a, self.b = (nn.Parameter(torch.empty(channels * rank, 1, 3, 3)) for _ in range(2))

    def forward(self, x):
        branch = functools.partial(F.conv2d, x, padding=3, dilation=3, groups=x.shape[1])
        return self.scale * sum_ranks(branch(self.a) * branch(self.b), self.rank)


class SharedFactorAdapter(nn.Module):
    """P((U x) * (V x)): U and V convolve as the host does, P mixes q products into its channels; scale 1."""

    def __init__(self, cin, cout, stride, q=4):
        super().__init__()
        self.stride = stride
        self.u, self.v = (nn.Parameter(torch.empty(q, cin, 3, 3)) for _ in range(2))
        self.p = nn.Parameter(torch.empty(cout, q, 1, 1))

    def forward(self, x):
        u, v = (F.conv2d(x, w, stride=self.stride, padding=1) for w in (self.u, self.v))
        return F.conv2d(u * v, self.p)


class AdaptedConv(nn.Conv2d):
    """A convolution whose optional adapter adds to its output."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.adapter = None

    def forward(self, x):
        y = super().forward(x)
        return y if self.adapter is None else y + self.adapter(x)


# ---------------------------------------------------------------- nets
CLOSEST_TO_KINK = []


def relu(x):
    CLOSEST_TO_KINK.append(x.detach().abs().min().item())
    return F.relu(x)


def conv3x3(cin, cout, stride, adapted):
    conv = AdaptedConv(cin, cout, 3, stride, 1, bias=False)
    if adapted:
        conv.adapter = SharedFactorAdapter(cin, cout, stride)
    return conv


class ResidualBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1 x)))) + shortcut x), the shortcut a projection or option A."""

    def __init__(self, cin, cout, stride, conv, projection):
        super().__init__()
        self.conv1, self.bn1 = conv(cin, cout, stride), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = conv(cout, cout, 1), nn.BatchNorm2d(cout)
        self.changes_shape, self.more = stride != 1 or cin != cout, cout - cin
        if self.changes_shape and projection:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def shortcut(self, x):
        if not self.changes_shape:
            return x
        if hasattr(self, "downsample"):
            return self.downsample(x)
        before = self.more // 2  # option A: every second pixel, new channels zero, half of them in front
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.more - before))

    def forward(self, x):
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(y + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, widths, depth, conv, first, projection):
        super().__init__()
        self.conv1, self.bn1 = first(3, widths[0], 1), nn.BatchNorm2d(widths[0])
        cin = widths[0]
        for i, cout in enumerate(widths):
            blocks = []
            for j in range(depth):
                blocks.append(ResidualBlock(cin, cout, 2 if i and j == 0 else 1, conv, projection))
                cin = cout
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(cin, CLASSES)

    def forward(self, x):
        x = relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def resnet20(widths, depth, adapted=True):
    conv = functools.partial(conv3x3, adapted=adapted)
    return ResNet(widths, depth, conv, conv, projection=False)


def qresnet14(widths, depth):
    return ResNet(widths, depth, NormedQuadraticConv, functools.partial(conv3x3, adapted=False), projection=True)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of an NCHW tensor."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-6)

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def scaled_mlp(block, x, gamma):
    """gamma * pwconv2(gelu(pwconv1 x)) over the channels of an NCHW tensor."""
    return (gamma * block.pwconv2(F.gelu(block.pwconv1(x.movedim(1, -1))))).movedim(-1, 1)


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim, adapted):
        super().__init__()
        self.dwconv = AdaptedConv(dim, dim, 7, padding=3, groups=dim)
        if adapted:
            self.dwconv.adapter = DepthwiseAdapter(dim)
        self.norm = ChannelNorm(dim)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.empty(dim))

    def forward(self, x):
        return x + scaled_mlp(self, self.norm(self.dwconv(x)), self.gamma)


class QuadraBlock(nn.Module):
    """QuadraNet V1's block: two residual branches, LayerNorm before each, the first quadratic."""

    def __init__(self, dim):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(dim), ChannelNorm(dim)
        self.mix = Quadratic(*(nn.Conv2d(dim, dim, 7, padding=3, groups=dim, bias=False) for _ in range(3)))
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.gamma1, self.gamma2 = (nn.Parameter(torch.empty(dim)) for _ in range(2))

    def forward(self, x):
        x = x + self.gamma1.view(1, -1, 1, 1) * self.mix(self.norm1(x))
        return x + scaled_mlp(self, self.norm2(x), self.gamma2)


class StagedNet(nn.Module):
    """Stem conv 2x2 stride 2 + LayerNorm; LayerNorm + conv 2x2 stride 2 between stages; mean, LayerNorm, linear."""

    def __init__(self, dims, depth, block):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, dims[0], 2, 2), ChannelNorm(dims[0]))
        downs = [nn.Sequential(ChannelNorm(i), nn.Conv2d(i, o, 2, 2)) for i, o in zip(dims, dims[1:])]
        self.downsample_layers = nn.ModuleList([stem, *downs])
        self.stages = nn.ModuleList(nn.Sequential(*(block(d) for _ in range(depth))) for d in dims)
        self.norm, self.head = nn.LayerNorm(dims[-1], eps=1e-6), nn.Linear(dims[-1], CLASSES)

    def forward(self, x):
        for down, stage in zip(self.downsample_layers, self.stages):
            x = stage(down(x))
        return self.head(self.norm(x.mean((2, 3))))


def convnext_cifar(dims, depth, adapted=True):
    return StagedNet(dims, depth, functools.partial(ConvNeXtBlock, adapted=adapted))


def quadranet_cifar(dims, depth):
    return StagedNet(dims, depth, QuadraBlock)


class QuadraticMLP(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        widths = (784, hidden, hidden, CLASSES)
        self.q = nn.ModuleList(Quadratic(nn.Linear(i, o, bias=False), nn.Linear(i, o, bias=False), nn.Linear(i, o))
                               for i, o in zip(widths, widths[1:]))

    def forward(self, x):
        return self.q[2](relu(self.q[1](relu(self.q[0](x)))))


# ---------------------------------------------------------------- golden values of a net
def randomize(model, seed):
    """Every tensor random and none trivial, so that each has a signal; normal weights keep the variance."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(state(model).items()):
        noise = torch.randn(tensor.shape, generator=draw)
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            value = 0.5 + torch.rand(tensor.shape, generator=draw)
        elif "gamma" in name:
            value = 0.5 + 0.1 * noise
        elif tensor.dim() == 1:
            value = 0.2 * noise
        elif name.endswith("adapter.p"):
            value = 0.1 * noise  # products would grow from layer to layer where no batch statistics tame them
        else:
            value = noise / math.sqrt(tensor[0].numel())
        with torch.no_grad():
            tensor.copy_(value)


def state(model):
    """Parameters and buffers by name, without BatchNorm's count of batches, which nothing here reads."""
    return {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}


def copies(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def step(model, images, labels):
    """One forward and backward: logits and loss; gradients lie in the parameters."""
    model.zero_grad()
    output = model(images)
    loss = F.cross_entropy(output, labels)
    loss.backward()
    return output.detach(), loss.detach()


def trainable(model):
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def buffers(model):
    return {n: b for n, b in state(model).items() if "running_" in n}


def ten_steps(model, weights, images, labels):
    """AdamW in float64 from the given weights: losses before each step and the gradients of the first."""
    model.double().load_state_dict({n: t.double() for n, t in weights.items()}, strict=False)
    optimizer = torch.optim.AdamW(trainable(model).values(), **ADAMW, foreach=False, fused=False)
    losses, first_gradients = [], {}
    for i in range(STEPS):
        losses.append(step(model, images.double(), labels)[1])
        if i == 0:
            first_gradients = {n: p.grad.clone() for n, p in trainable(model).items()}
        optimizer.step()
    return torch.stack(losses), first_gradients


def distance(got, expected):
    """Norm of the difference relative to the norm of what is expected."""
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


def save(name, tensors, metadata):
    """The writer sorts tensors but leaves metadata in any order; sorted keys make the bytes reproducible."""
    path = HERE / f"{name}.safetensors"
    blob = safetensors.torch.save({n: t.contiguous() for n, t in tensors.items()}, metadata)
    size = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8:8 + size])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) <= size, "the sorted header outgrew the written one"
    path.write_bytes(blob[:8] + text.ljust(size) + blob[8 + size:])
    print(f"{path.name:40} {path.stat().st_size:8} bytes, {len(tensors)} tensors")


def net_golden(name, what, model, config, seed, train=".*", frozen_norm=False, zero_gradient="(?!)", change=None,
               input_shape=(3, 16, 16), input_scale=1.0):
    """Write one net: a float32 step and ten float64 AdamW steps from the same weights.

    train and zero_gradient are patterns of parameter names: what learns, and whose gradient must vanish.
    """
    randomize(model, seed)
    if change:
        change(model)
    model.train(not frozen_norm)
    for n, p in model.named_parameters():
        p.requires_grad_(re.search(train, n) is not None)
    draw = torch.Generator().manual_seed(seed + 1)
    images = input_scale * torch.randn((BATCH, *input_shape), generator=draw)
    labels = torch.randint(CLASSES, (BATCH,), generator=draw)

    weights = copies(state(model))
    CLOSEST_TO_KINK.clear()
    output, loss = step(model, images, labels)
    # Float32 rounding is near 1e-6 here: beyond 1e-5 no implementation falls on the other side of the kink.
    assert min(CLOSEST_TO_KINK, default=1) > 1e-5, f"{name}: a relu at its kink, change the seed"
    gradients, running = copies({n: p.grad for n, p in trainable(model).items()}), copies(buffers(model))

    CLOSEST_TO_KINK.clear()
    losses, gradients64 = ten_steps(model, weights, images, labels)
    assert min(CLOSEST_TO_KINK, default=1) > 1e-9, f"{name}: a relu at its kink during the ten steps"
    final, final_running = copies(trainable(model)), copies(buffers(model))
    for n, p in state(model).items():
        assert n in final or n in final_running or torch.equal(p, weights[n].double()), f"{name}: {n} is not frozen"

    scale = max(g.norm().item() for g in gradients64.values())
    zero = [n for n, g in gradients64.items() if g.norm() < 1e-13 * scale]
    assert zero == [n for n in gradients64 if re.search(zero_gradient, n)], f"{name}: zero gradients {zero}"
    exact = [n for n in zero if not gradients[n].any()]
    rounding = max(distance(gradients[n], g) for n, g in gradients64.items() if n not in zero)
    assert rounding < 2e-5, f"{name}: float32 gradients are off by {rounding}"  # a fifth of the tests' tolerance

    draw = torch.Generator().manual_seed(seed + 2)
    nudged = {n: t.double() * (1 + 1e-15 * torch.randn(t.shape, generator=draw, dtype=torch.float64))
              for n, t in weights.items()}
    ten_steps(model, nudged, images, labels)
    amplified = max(distance(p.detach(), final[n]) for n, p in trainable(model).items() if n not in zero)
    assert amplified < 1e-11, f"{name}: a nudge of 1e-15 becomes {amplified} in ten steps"

    tensors = {"input": images, "labels": labels.int(), "output": output, "loss": loss, "loss64": losses}
    for folder, values in (("weights", weights), ("grad", gradients), ("running", running), ("final", final),
                           ("final_running", final_running)):
        tensors.update({f"{folder}/{n}": t for n, t in values.items()})
    save(name, tensors, {
        "what": what, "torch": torch.__version__, "config": json.dumps(config), "zero_gradient": json.dumps(zero),
        "zero_gradient_bitwise": json.dumps(exact), "trainable": json.dumps(list(final)),
        "adamw": json.dumps({**ADAMW, "steps": STEPS})})
    print(f"    loss {losses[0]:.4f} -> {losses[-1]:.4f}, float32 gradients {rounding:.1e}, amplified {amplified:.1e}")
    return output


def check_parameter_counts():
    """The full-size nets, of which the goldens are narrow copies, have the published numbers of parameters."""
    expected = {269722: resnet20((16, 32, 64), 3, adapted=False), 518938: qresnet14((16, 32, 64), 2),
                1596874: convnext_cifar((64, 128, 256), 2, adapted=False),
                1686474: quadranet_cifar((64, 128, 256), 2), 2007050: QuadraticMLP(512)}
    for count, model in expected.items():
        assert sum(p.numel() for p in model.parameters()) == count, count


def write_nets():
    widths, resnet = (4, 8, 16), {"widths": [4, 8, 16], "depths": [1, 1, 1]}
    staged = {"dims": [4, 8, 16], "depths": [1, 1, 1]}
    adapter = {"form": "depthwise", "rank": 2, "kernel": 3, "dilation": 3, "scale": 0.5, "on": "stages.*.dwconv"}
    net_golden("qresnet14", "QuadraLib's quadratic ResNet, BatchNorm in training mode", qresnet14(widths, 1),
               resnet, seed=14, zero_gradient=r"\.bn_c\.bias$")
    adapted = {**staged, "adapter": adapter}
    net_golden("convnext_cifar", "ConvNeXt with quadratic depthwise adapters, everything trains",
               convnext_cifar(widths, 1), adapted, seed=20)
    net_golden("convnext_cifar_frozen", "the same start, adapters and head train",
               convnext_cifar(widths, 1), adapted, seed=20, train=r"\.adapter\.|^head\.")

    def zero_a(model):
        for n, p in model.named_parameters():
            if n.endswith("adapter.a"):
                nn.init.zeros_(p)
    output = net_golden("convnext_cifar_zero_start", "the same but a = 0: the start of an adaptation",
                        convnext_cifar(widths, 1), adapted, seed=20, train=r"\.adapter\.|^head\.",
                        zero_gradient=r"\.adapter\.b$", change=zero_a)
    base = convnext_cifar(widths, 1)
    randomize(base, 20)
    for stage in base.stages:
        stage[0].dwconv.adapter = None
    images = torch.randn((BATCH, 3, 16, 16), generator=torch.Generator().manual_seed(21))
    assert torch.equal(base(images), output), "a = 0 must leave the base's logits as they are"

    net_golden("quadranet_cifar", "QuadraNet V1's blocks, everything trains", quadranet_cifar(widths, 1), staged,
               seed=30)
    # 784 inputs of size 1 would let one step of 1e-2 move an output by 6, and the product makes that explode.
    net_golden("qmlp", "quadratic MLP", QuadraticMLP(8), {"widths": [784, 8, 8, 10]}, seed=40, input_shape=(784,),
               input_scale=0.25)
    shared = {"form": "shared", "q": 4, "scale": 1.0, "on": "every 3x3 convolution"}
    net_golden("resnet20", "shared-factor adapters, BatchNorm in evaluation mode, adapters and linear train",
               resnet20(widths, 1), {**resnet, "adapter": shared}, seed=50, train=r"\.adapter\.|^linear\.",
               frozen_norm=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.backends.mkldnn.enabled = False  # one way to convolve, whatever the processor
    check_parameter_counts()
    write_nets()
    golden_ops.write(save)

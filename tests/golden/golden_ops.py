"""Golden values of single operations that are easily got wrong; make_golden.py calls write().

Everything is float64. The quadratic operations are also differentiated by hand, from the formulas
    dbias = sum g,  dWc = corr(x, g),  dWa_j = corr(x, s g o b_j),  dWb_j = corr(x, s g o a_j),
    dx = C^T g + sum_j [A_j^T (s g o b_j) + B_j^T (s g o a_j)],  ds = sum(g o sum_j a_j o b_j),
and the result is asserted to agree with autograd.
"""
import functools
import json
import math

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

AGREE = 1e-12  # relative; float64 rounding over sums of a few hundred products stays below 1e-14


class Conv:
    """A linear map by convolution: forward, weight gradient corr(x, h) and transposed map."""

    def __init__(self, **attributes):
        self.attributes = attributes

    def forward(self, x, w):
        return F.conv2d(x, w, **self.attributes)

    def corr(self, x, h, w):
        return conv2d_weight(x, w.shape, h, **self.attributes)

    def transposed(self, x, h, w):
        return conv2d_input(x.shape, w, h, **self.attributes)


class Dense:
    """The same three for a fully connected layer."""

    def forward(self, x, w):
        return x @ w.T

    def corr(self, x, h, w):
        return h.T @ x

    def transposed(self, x, h, w):
        return h @ w


def per_channel(v, like):
    return v.view(1, -1, *[1] * (like.dim() - 2))


def sum_ranks(products, rank):
    return products.unflatten(1, (-1, rank)).sum(2)


def quadratic(base, branch, rank, t):
    """y = scale * sum_j (A_j x) o (B_j x) + C x + bias; row c*rank + j of a and b belongs to output c."""
    a, b = branch.forward(t["input"], t["a"]), branch.forward(t["input"], t["b"])
    linear = base.forward(t["input"], t["weight"])
    return t["scale"] * sum_ranks(a * b, rank) + linear + per_channel(t["bias"], linear)


def quadratic_by_hand(base, branch, rank, t, g):
    x = t["input"]
    a, b = branch.forward(x, t["a"]), branch.forward(x, t["b"])
    scaled = (t["scale"] * g).repeat_interleave(rank, 1)
    ga, gb = scaled * b, scaled * a
    return {"bias": g.sum([d for d in range(g.dim()) if d != 1]),
            "weight": base.corr(x, g, t["weight"]),
            "a": branch.corr(x, ga, t["a"]), "b": branch.corr(x, gb, t["b"]),
            "input": base.transposed(x, g, t["weight"]) + branch.transposed(x, ga, t["a"])
            + branch.transposed(x, gb, t["b"]),
            "scale": (g * sum_ranks(a * b, rank)).sum()}


BRANCHES = ("a", "b", "c")


def normed_quadratic(conv, eps, t):
    """QuadraLib's layer: BN(conv_a x) o BN(conv_b x) + BN(conv_c x); batch statistics; buffers move in place."""
    a, b, c = (F.batch_norm(conv.forward(t["input"], t[f"conv_{k}.weight"]), t[f"bn_{k}.running_mean"],
                            t[f"bn_{k}.running_var"], t[f"bn_{k}.weight"], t[f"bn_{k}.bias"], True, 0.1, eps)
               for k in BRANCHES)
    return a * b + c


def normed_quadratic_by_hand(conv, eps, t, g):
    """da_pre = gamma invstd / K (K da - sum da - a_hat sum(da o a_hat)), K elements a channel."""
    x, pre, hat, out, invstd = t["input"], {}, {}, {}, {}
    for k in BRANCHES:
        pre[k] = conv.forward(x, t[f"conv_{k}.weight"])
        invstd[k] = (pre[k].var((0, 2, 3), unbiased=False) + eps).rsqrt()
        hat[k] = (pre[k] - per_channel(pre[k].mean((0, 2, 3)), pre[k])) * per_channel(invstd[k], pre[k])
        out[k] = per_channel(t[f"bn_{k}.weight"], hat[k]) * hat[k] + per_channel(t[f"bn_{k}.bias"], hat[k])
    gradients = {"input": torch.zeros_like(x)}
    for k, gk in zip(BRANCHES, (g * out["b"], g * out["a"], g)):
        count = gk.numel() / gk.shape[1]
        dbias, dweight = gk.sum((0, 2, 3)), (gk * hat[k]).sum((0, 2, 3))
        centred = count * gk - per_channel(dbias, gk) - hat[k] * per_channel(dweight, gk)
        gpre = per_channel(t[f"bn_{k}.weight"] * invstd[k] / count, gk) * centred
        weight = t[f"conv_{k}.weight"]
        gradients |= {f"bn_{k}.weight": dweight, f"bn_{k}.bias": dbias, f"conv_{k}.weight": conv.corr(x, gpre, weight)}
        gradients["input"] = gradients["input"] + conv.transposed(x, gpre, weight)
    return gradients


class Cases:
    """Collects <case>/<tensor>, with the attributes of each case."""

    def __init__(self, seed):
        self.draw = torch.Generator().manual_seed(seed)
        self.tensors, self.attributes = {}, {}

    def normal(self, *shape):
        return torch.randn(shape, generator=self.draw, dtype=torch.float64)

    def uniform(self, *shape):
        """Between 0.5 and 1.5, for variances and the weights of norms."""
        return 0.5 + torch.rand(shape, generator=self.draw, dtype=torch.float64)

    def keep(self, case, tensors, **attributes):
        self.tensors |= {f"{case}/{n}": v.detach().clone() for n, v in tensors.items()}
        self.attributes[case] = attributes

    def add(self, case, inputs, forward, by_hand=None, **attributes):
        """Run forward(inputs), push a random upstream gradient back, keep it all.

        Running statistics are buffers: kept as given and, under after/, as the call left them.
        """
        self.keep(case, inputs, **attributes)
        leaves = {n: v for n, v in inputs.items() if v.is_floating_point() and "running_" not in n}
        for v in leaves.values():
            v.requires_grad_()
        output = forward(inputs)
        upstream = self.normal(*output.shape)
        output.backward(upstream)
        if by_hand:
            with torch.no_grad():
                for n, expected in by_hand(inputs, upstream).items():
                    error = (expected - leaves[n].grad).norm() / leaves[n].grad.norm()
                    assert error < AGREE, f"{case}: d{n} by hand differs from autograd by {error}"
        self.keep(case, {"output": output, "upstream": upstream, **{f"grad/{n}": v.grad for n, v in leaves.items()},
                         **{f"after/{n}": v for n, v in inputs.items() if "running_" in n}}, **attributes)


def add_first_order(cases):
    normal, uniform = cases.normal, cases.uniform
    conv = dict(stride=2, padding=1, dilation=2, groups=2)
    cases.add("conv2d", {"input": normal(2, 4, 9, 8), "weight": normal(6, 2, 3, 3), "bias": normal(6)},
              lambda t: F.conv2d(t["input"], t["weight"], t["bias"], **conv), **conv)
    for mode, training in (("train", True), ("eval", False)):
        norm = dict(training=training, momentum=0.1, eps=1e-5)
        cases.add(f"batch_norm_{mode}",
                  {"input": 3 + 2 * normal(3, 5, 4, 3), "weight": uniform(5), "bias": normal(5),
                   "running_mean": normal(5), "running_var": uniform(5)},
                  lambda t: F.batch_norm(**t, **norm), **norm)
    cases.add("layer_norm", {"input": 3 + 2 * normal(4, 3, 7), "weight": uniform(7), "bias": normal(7)},
              lambda t: F.layer_norm(t["input"], (7,), t["weight"], t["bias"], 1e-6), axis=-1, eps=1e-6)
    # The ends, where erf saturates and exp underflows, and zero; between them ordinary values.
    ends = torch.tensor([-40, -9, -6, -3, -0.75, -1e-8, 0, 1e-8, 0.75, 3, 6, 9, 40], dtype=torch.float64)
    cases.add("gelu", {"input": torch.cat([ends, normal(11)])}, lambda t: F.gelu(t["input"]), approximate="none")
    # The last row overflows exp unless the maximum is taken out first.
    logits = torch.cat([normal(4, 7), 1000 * normal(1, 7)])
    cases.add("softmax_cross_entropy", {"input": logits, "labels": torch.tensor([3, 0, 6, 3, 2], dtype=torch.int32)},
              lambda t: F.cross_entropy(t["input"], t["labels"].long()), reduction="mean")


def add_quadratic(cases):
    normal, uniform, rank = cases.normal, cases.uniform, 2

    def add(case, linear, product, x, weight, factor, **attributes):
        inputs = {"input": normal(*x), "weight": normal(*weight), "bias": normal(weight[0]),
                  "a": normal(*factor), "b": normal(*factor), "scale": torch.tensor(1 / rank, dtype=torch.float64)}
        cases.add(case, inputs, functools.partial(quadratic, linear, product, rank),
                  functools.partial(quadratic_by_hand, linear, product, rank), rank=rank, **attributes)

    add("quadratic_linear", Dense(), Dense(), (5, 6), (4, 6), (4 * rank, 6))
    full = dict(stride=2, padding=1, dilation=1, groups=1)
    add("quadratic_conv2d", Conv(**full), Conv(**full), (2, 3, 9, 8), (4, 3, 3, 3), (4 * rank, 3, 3, 3),
        base=full, branch=full)
    for stride in (1, 2):
        base = dict(stride=stride, padding=3, dilation=1, groups=4)
        branch = dict(stride=stride, padding=3, dilation=3, groups=4)
        add(f"quadratic_depthwise_conv2d_stride{stride}", Conv(**base), Conv(**branch),
            (2, 4, 9, 8), (4, 1, 7, 7), (4 * rank, 1, 3, 3), base=base, branch=branch)

    conv, eps = Conv(stride=2, padding=1), 1e-5
    layer = {"input": normal(3, 3, 9, 8)}
    for k in BRANCHES:
        layer |= {f"conv_{k}.weight": normal(4, 3, 3, 3), f"bn_{k}.weight": uniform(4), f"bn_{k}.bias": normal(4),
                  f"bn_{k}.running_mean": normal(4), f"bn_{k}.running_var": uniform(4)}
    cases.add("quadratic_conv2d_normed", layer, functools.partial(normed_quadratic, conv, eps),
              functools.partial(normed_quadratic_by_hand, conv, eps), **conv.attributes, momentum=0.1, eps=eps)


def add_path(cases, case, optimizer, options, steps, size):
    """grad: the gradient given at each step; parameter: the vector before the first step and after each."""
    parameter, gradients = cases.normal(size).requires_grad_(), cases.normal(steps, size)
    gradients[:, 0] = 0  # decays, and never divides zero by zero
    update, path = optimizer([parameter], foreach=False, **options), [parameter.detach().clone()]
    for g in gradients:
        parameter.grad = g.clone()
        update.step()
        path.append(parameter.detach().clone())
    cases.keep(case, {"grad": gradients, "parameter": torch.stack(path)}, **options)


SGD = dict(lr=0.1, momentum=0.9, weight_decay=5e-4)


def add_optimizers(cases, steps=5, size=7):
    adamw = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    for case, optimizer, options in (("sgd", torch.optim.SGD, SGD), ("adamw", torch.optim.AdamW, adamw)):
        add_path(cases, case, optimizer, options, steps, size)
    for case, max_norm in (("clip_grad_norm", 1.5), ("clip_grad_norm_below", 100.0)):
        before = {"first": cases.normal(3, 2), "second": cases.normal(5)}
        leaves = {n: torch.zeros_like(g).requires_grad_() for n, g in before.items()}
        for n, p in leaves.items():
            p.grad = before[n].clone()
        norm = torch.nn.utils.clip_grad_norm_(leaves.values(), max_norm, foreach=False)
        cases.keep(case, {**{f"before/{n}": g for n, g in before.items()}, "norm": norm,
                          **{f"after/{n}": p.grad for n, p in leaves.items()}}, max_norm=max_norm)


def add_elementwise(cases):
    # The ends, kinks and bounds, where a gradient is a matter of definition, and zero; between them ordinary values.
    ends = torch.tensor([-40, -9, -6, -1.5, -0.75, -1e-8, 0, 1e-8, 0.75, 1.5, 6, 9, 40], dtype=torch.float64)
    any_value = {"relu6": F.relu6, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "silu": F.silu, "abs": torch.abs,
                 "clamp": functools.partial(torch.clamp, min=-0.75, max=1.5),
                 "gelu_tanh": functools.partial(F.gelu, approximate="tanh")}
    for case, function in any_value.items():
        cases.add(case, {"input": torch.cat([ends, 2 * cases.normal(11)])}, lambda t: function(t["input"]))
    for case, function in {"log": torch.log, "sqrt": torch.sqrt}.items():
        cases.add(case, {"input": cases.uniform(11)}, lambda t: function(t["input"]))

    cases.add("log_softmax", {"input": torch.cat([cases.normal(3, 7), 1000 * cases.normal(1, 7)])},
              lambda t: F.log_softmax(t["input"], -1))
    cases.add("mse", {"input": cases.normal(3, 5), "target": cases.normal(3, 5)},
              lambda t: F.mse_loss(t["input"], t["target"]))
    smoothed = functools.partial(F.cross_entropy, label_smoothing=0.1)
    cases.add("cross_entropy_smoothed",
              {"input": cases.normal(5, 7), "labels": torch.tensor([3, 0, 6, 3, 2], dtype=torch.int32)},
              lambda t: smoothed(t["input"], t["labels"].long()), label_smoothing=0.1)
    cases.add("cross_entropy_soft", {"input": cases.normal(5, 7), "targets": torch.softmax(cases.normal(5, 7), -1)},
              lambda t: smoothed(t["input"], t["targets"]), label_smoothing=0.1)


def add_pooling(cases):
    def add(case, pool, shape, **options):
        cases.add(case, {"input": cases.normal(*shape)}, lambda t: pool(t["input"], **options), **options)

    overlapping = dict(kernel_size=3, stride=2, padding=1)
    add("max_pool2d", F.max_pool2d, (2, 3, 7, 8), **overlapping)
    add("max_pool2d_ceil", F.max_pool2d, (2, 3, 5, 6), kernel_size=2, ceil_mode=True)
    add("avg_pool2d", F.avg_pool2d, (2, 3, 7, 8), **overlapping)
    add("avg_pool2d_ceil", F.avg_pool2d, (2, 3, 6, 7), **overlapping, ceil_mode=True)
    add("avg_pool2d_ceil_no_padding", F.avg_pool2d, (2, 3, 6, 7), **overlapping, ceil_mode=True,
        count_include_pad=False)
    add("adaptive_avg_pool2d", F.adaptive_avg_pool2d, (2, 3, 7, 5), output_size=(3, 4))
    add("adaptive_avg_pool2d_more", F.adaptive_avg_pool2d, (2, 3, 7, 5), output_size=(9, 1))


def add_reductions(cases):
    # Halves, so that many are equal: the first of them gets the gradient.
    cases.add("max", {"input": (2 * cases.normal(3, 7, 5)).round() / 2}, lambda t: t["input"].max(1).values, dim=1)


def add_upsampling(cases):
    for mode in ("nearest", "bilinear"):
        for size, suffix in (((8, 11), ""), ((2, 3), "_smaller")):
            options = dict(size=size, mode=mode, **({"align_corners": False} if mode == "bilinear" else {}))
            cases.add(f"upsample_{mode}{suffix}", {"input": cases.normal(2, 3, 5, 4)},
                      lambda t: F.interpolate(t["input"], **options), **options)


def add_global_response_norm(cases, eps=1e-6):
    def norm(t):  # ConvNeXt V2's, channels last
        x = t["input"]
        g = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        return t["gamma"] * (x * (g / (g.mean(-1, keepdim=True) + eps))) + t["beta"] + x

    x = cases.normal(2, 3, 4, 5)
    x[1, :, :, 2] = 0
    cases.add("global_response_norm", {"input": x, "gamma": cases.normal(5), "beta": cases.normal(5)}, norm, eps=eps)


def add_attention(cases):
    cases.add("batched_matmul", {"a": cases.normal(2, 3, 4, 5), "b": cases.normal(2, 3, 6, 4)},
              lambda t: t["a"].mT @ t["b"].mT, transpose_a=True, transpose_b=True)
    for case, queries, keys, causal in (("attention", 5, 7, False), ("attention_causal", 6, 6, True),
                                        ("attention_causal_more_keys", 4, 7, True),
                                        ("attention_causal_fewer_keys", 7, 4, True)):
        inputs = {n: cases.normal(2, 3, *shape) for n, shape in
                  (("q", (queries, 4)), ("k", (keys, 4)), ("v", (keys, 5)))}
        cases.add(case, inputs, lambda t: F.scaled_dot_product_attention(*t.values(), is_causal=causal), causal=causal)


def add_quadratic_types(cases):
    """QuadraLib's types; the form of type 1 by F.bilinear, on unfolded patches where it is a convolution.

    Its matrices lie as files have them: b[k n + i] is row i of output k, i counting kernel rows, columns, channels.
    """
    conv = dict(stride=2, padding=1, dilation=2, groups=2)

    def dense_form(x, b):
        return F.bilinear(x, x, b.view(-1, x.shape[1], x.shape[1]))

    def conv_form(x, b):
        inputs, side = b.shape[1], b.shape[2]
        n = inputs * side * side
        matrices = b.view(-1, side, side, inputs, inputs, side, side).permute(0, 3, 1, 2, 4, 5, 6).reshape(-1, n, n)
        window = {name: conv[name] for name in ("stride", "padding", "dilation")}
        outputs = []
        for images, group in zip(x.chunk(conv["groups"], 1), matrices.chunk(conv["groups"])):
            patches = F.unfold(images, side, **window).mT.contiguous()
            outputs.append(F.bilinear(patches, patches, group).mT)
        size = F.conv2d(x[:, :inputs], b[:1], **window).shape[2:]
        return torch.cat(outputs, 1).unflatten(2, size)

    def add(op, map, form, x, weight, **attributes):
        matrices, normal = (weight[0] * math.prod(weight[1:]), *weight[1:]), cases.normal
        for name, shapes, term in (
                ("type1", {"b": matrices}, lambda x, b: form(x, b)),
                ("type2", {"square": weight}, lambda x, square: map(x * x, square)),
                ("type3", {"a": weight}, lambda x, a: map(x, a) ** 2),
                ("type4", {"a": weight, "b": weight}, lambda x, a, b: map(x, a) * map(x, b)),
                ("type12", {"b": matrices, "square": weight}, lambda x, b, square: form(x, b) + map(x * x, square)),
                ("type24", {"a": weight, "b": weight, "square": weight},
                 lambda x, a, b, square: map(x, a) * map(x, b) + map(x * x, square)),
                ("type24_shared", {"a": weight, "b": weight},
                 lambda x, a, b: map(x, a) * map(x, b) + map(x * x, b))):
            cases.add(f"{op}_{name}", {"input": normal(*x), **{k: normal(*shape) for k, shape in shapes.items()}},
                      lambda t: term(*t.values()), **attributes)

    add("quadratic_linear", F.linear, dense_form, (5, 6), (4, 6))
    add("quadratic_conv2d", functools.partial(F.conv2d, **conv), conv_form, (2, 4, 9, 8), (4, 2, 3, 3), **conv)


def write(save):
    cases = Cases(seed=60)
    add_first_order(cases)
    add_quadratic(cases)
    add_optimizers(cases)
    # Each with draws of its own, so that none moves another's.
    families = (add_pooling, add_reductions, add_upsampling, add_global_response_norm, add_attention, add_elementwise,
                add_quadratic_types)
    for seed, add in enumerate(families, start=61):
        cases.draw.manual_seed(seed)
        add(cases)
    cases.draw.manual_seed(100)  # draws of its own: those of other cases stay what they were
    add_path(cases, "sgd_nesterov", torch.optim.SGD, dict(SGD, nesterov=True), steps=5, size=7)
    save("ops", cases.tensors, {"what": "single operations in float64: inputs, output, upstream gradient, gradients",
                                "torch": torch.__version__, "attributes": json.dumps(cases.attributes)})

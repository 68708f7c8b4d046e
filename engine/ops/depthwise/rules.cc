#include "engine/ops/depthwise/rules.h"

#include "engine/ops/checks.h"

namespace parabola::depthwise {
namespace {

// Which of a_j and b_j backward multiplies the output gradient with: dA_j and dx need b_j, dB_j and dx need a_j.
bool needs_a(const Signature& s) { return s.has(input_b) && (s.wants_gradient(input_x) || s.wants_gradient(input_b)); }
bool needs_b(const Signature& s) { return s.has(input_a) && (s.wants_gradient(input_x) || s.wants_gradient(input_a)); }

// Variant 1 keeps a_j and b_j, where backward reads any of them.
bool keeps(const Signature& s) { return s.variant == 1 && (needs_a(s) || needs_b(s)); }

uint64_t bit(int position, bool set) { return set ? uint64_t{1} << position : 0; }

}  // namespace

ConvGeometry kernel_geometry(std::string_view op, const Shape& x, std::string_view what, const Shape& kernels,
                             const DepthwiseAttributes& attributes) {
  if (x.rank() != 4 || x[3] < 1) fail<ShapeError>(op, "input: got ", x, ", expected [N, H, W, C]");
  if (kernels[-1] != x[3])
    fail<ShapeError>(op, what, ": got ", kernels, " for an input of ", x[3], " channels, expected ",
                     kernels.with(-1, x[3]));
  return conv_geometry(op, x, x[3], kernels[-3], kernels[-2],
                       {attributes.stride, attributes.padding, attributes.dilation, static_cast<int>(x[3])});
}

Layout layout(std::string_view op, const Signature& s, const Problem& problem) {
  const ConvGeometry& g = problem.any();
  require_one_dtype(op, s);
  require_shape(op, s, input_bias, "bias", {g.C});
  Layout result{.outputs = {{g.output_shape(), s.dtype()}},
                .forward_workspace = forward_workspace(problem, s.dtype()),
                .backward_workspace = backward_workspace(problem, s.dtype(), s.gradient_mask, keeps(s))};
  if (keeps(s)) {
    const TensorSpec branch{Shape{problem.rank, g.N, g.Ho, g.Wo, g.C}, s.dtype()};
    result.auxiliary = {branch, branch};
  }
  return result;
}

StepCost cost(const Signature& s, const Problem& problem) {
  const double outputs = static_cast<double>(problem.any().output_shape().elements());
  const double rank = static_cast<double>(problem.rank);
  const double linear = problem.linear ? problem.linear->flops() : 0;
  const double factors = problem.quadratic ? rank * problem.quadratic->flops() : 0;  // of all a_j, or of all b_j
  const double output_bytes = outputs * static_cast<double>(size_of(s.dtype()));
  const auto count = [&](auto... conditions) { return static_cast<double>((int{conditions} + ...)); };
  StepCost result;

  result.forward.flops = linear + 2 * factors + outputs * (s.has(input_bias) + 2 * rank + 2 * count(rank > 0));
  for (const TensorSpec& input : s.inputs) result.forward.bytes_read += static_cast<double>(input.bytes());
  result.forward.bytes_written = output_bytes * (1 + (keeps(s) ? 2 * rank : 0));

  const double planes = count(needs_a(s), needs_b(s));
  result.backward.flops =
      linear * count(s.wants_gradient(input_x), s.wants_gradient(input_weight)) +
      factors * (2 * count(s.wants_gradient(input_x)) + count(s.wants_gradient(input_a), s.wants_gradient(input_b)) +
                 (keeps(s) ? 0 : planes)) +
      outputs * (count(planes > 0) + rank * planes + count(s.wants_gradient(input_bias)));
  const Needs read = needs(s);
  result.backward.bytes_read = output_bytes * (1 + (keeps(s) ? rank * planes : 0));
  for (int i = 0; i < static_cast<int>(s.inputs.size()); ++i) {
    const double bytes = static_cast<double>(s.inputs[static_cast<size_t>(i)].bytes());
    if (read.inputs >> i & 1) result.backward.bytes_read += bytes;
    if (s.wants_gradient(i)) result.backward.bytes_written += bytes;
  }
  return result;
}

Needs needs(const Signature& s) {
  const bool dx = s.wants_gradient(input_x), recomputes = !keeps(s);
  const bool corr = s.wants_gradient(input_weight) || s.wants_gradient(input_a) || s.wants_gradient(input_b);
  Needs result;
  result.inputs = bit(input_x, corr || (recomputes && (needs_a(s) || needs_b(s)))) |
                  bit(input_weight, s.has(input_weight) && dx) |
                  bit(input_a, s.has(input_a) && (dx || (recomputes && needs_a(s)))) |
                  bit(input_b, s.has(input_b) && (dx || (recomputes && needs_b(s))));
  if (keeps(s)) result.auxiliary = bit(0, needs_a(s)) | bit(1, needs_b(s));
  return result;
}

}  // namespace parabola::depthwise

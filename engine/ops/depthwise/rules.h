// Shapes, costs and needs of the depthwise ops, all by one rule: the plain op is a problem without factors.
#pragma once
#include "engine/ops/depthwise/depthwise_conv2d.h"
#include "engine/ops/depthwise/kernels.h"

namespace parabola::depthwise {

// Geometry of the kernels [.., R, S, C] called `what` on x. ShapeError and UsageError, naming `op`, as conv_geometry.
ConvGeometry kernel_geometry(std::string_view op, const Shape& x, std::string_view what, const Shape& kernels,
                             const DepthwiseAttributes& attributes);

// The problem that a call of an op poses, by the shapes of its specs or views.
template <class Input>
Problem plain_problem(const Attributes& attributes, std::span<const Input> inputs);
template <class Input>
Problem quadratic_problem(const Attributes& attributes, std::span<const Input> inputs);

Layout layout(std::string_view op, const Signature& s, const Problem& problem);
StepCost cost(const Signature& s, const Problem& problem);
Needs needs(const Signature& s);

}  // namespace parabola::depthwise

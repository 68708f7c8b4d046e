#include "engine/ops/registry.h"

#include <array>

#include "engine/ops/attention/scaled_dot_product_attention.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/batched_matmul.h"
#include "engine/ops/binary.h"
#include "engine/ops/concat.h"
#include "engine/ops/conv2d/batch_norm_relu_conv2d.h"
#include "engine/ops/conv2d/conv2d.h"
#include "engine/ops/cross_entropy.h"
#include "engine/ops/depthwise/depthwise_conv2d.h"
#include "engine/ops/depthwise/quadratic_depthwise_conv2d.h"
#include "engine/ops/dropout.h"
#include "engine/ops/gelu.h"
#include "engine/ops/global_response_norm.h"
#include "engine/ops/gradient_norm.h"
#include "engine/ops/layer_norm.h"
#include "engine/ops/linear.h"
#include "engine/ops/matmul.h"
#include "engine/ops/max.h"
#include "engine/ops/mlp.h"
#include "engine/ops/mse.h"
#include "engine/ops/one_hot.h"
#include "engine/ops/optimizers.h"
#include "engine/ops/pad.h"
#include "engine/ops/permute.h"
#include "engine/ops/pooling/avg_pool2d.h"
#include "engine/ops/pooling/max_pool2d.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_normed.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_shared.h"
#include "engine/ops/quadratic_linear.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/ops/slice.h"
#include "engine/ops/softmax.h"
#include "engine/ops/unary.h"
#include "engine/ops/upsample.h"
#include "engine/ops/view.h"

namespace parabola {

std::span<const OpDef* const> all_ops() {
  static constexpr std::array ops = {
      &abs_op,
      &adamw_op,
      &adaptive_avg_pool2d_op,
      &add_op,
      &avg_pool2d_op,
      &batch_norm_op,
      &batch_norm_inference_op,
      &batch_norm_relu_conv2d_op,
      &batched_matmul_op,
      &clamp_op,
      &concat_op,
      &conv2d_op,
      &cross_entropy_op,
      &depthwise_conv2d_op,
      &divide_op,
      &drop_path_op,
      &dropout_op,
      &ema_op,
      &exp_op,
      &gelu_op,
      &gelu_tanh_op,
      &global_response_norm_op,
      &gradient_norm_op,
      &layer_norm_op,
      &linear_op,
      &log_op,
      &log_softmax_op,
      &matmul_op,
      &max_op,
      &max_pool2d_op,
      &mean_op,
      &mlp_op,
      &mse_op,
      &multiply_op,
      &neg_op,
      &one_hot_op,
      &pad_op,
      &permute_op,
      &quadratic_conv2d_op,
      &quadratic_conv2d_normed_op,
      &quadratic_conv2d_normed_inference_op,
      &quadratic_conv2d_shared_op,
      &quadratic_depthwise_conv2d_op,
      &quadratic_linear_op,
      &relu_op,
      &relu6_op,
      &scaled_dot_product_attention_op,
      &sgd_op,
      &sigmoid_op,
      &silu_op,
      &slice_op,
      &softmax_op,
      &sqrt_op,
      &square_op,
      &subtract_op,
      &sum_op,
      &tanh_op,
      &upsample_op,
      &view_op,
  };
  return ops;
}

const OpDef* find_op(std::string_view name) {
  for (const OpDef* op : all_ops())
    if (op->name == name) return op;
  return nullptr;
}

}  // namespace parabola

// SPDX-License-Identifier: Apache-2.0
// Batch norm with residual and activation, and its gradients. Blocks of kBlockRows rows are summed in parallel and combined in
// their order, so that results do not depend on the number of threads.
#include "batch_norm.h"

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>
#include <vector>

#include "common/parallel.h"
#include "common/tensors.h"
#include "cpu/batch_norm_rows.h"
#include "cpu/conv_kernels.h"

namespace pcperc {
namespace {

constexpr int64_t kBlockRows = 128;  // short sums lose few digits; those over the blocks are float64

// The rows of a block as numbers of A: themselves, or a converted copy in a buffer.
template <class T>
class RowBuffer {
  using A = Accumulator<T>;

 public:
  // data may be null, as where there is no residual.
  RowBuffer(T* data, int64_t begin, int64_t end, int64_t channels)
      : data_(data ? data + begin * channels : nullptr), count_((end - begin) * channels) {
    if (!std::is_same_v<T, A> && data) buffer_.resize(count_);
  }

  A* read() {
    if constexpr (!std::is_same_v<T, A>) {
      if (data_) half_conversion<T>(cpu_capability()).widen(data_, count_, buffer_.data());
    }
    return to_write();
  }

  A* to_write() {
    if constexpr (std::is_same_v<T, A>) {
      return data_;
    } else {
      return data_ ? buffer_.data() : nullptr;
    }
  }

  void written() {
    if constexpr (!std::is_same_v<T, A>) {
      if (data_) half_conversion<T>(cpu_capability()).narrow(buffer_.data(), count_, data_);
    }
  }

 private:
  T* data_;
  int64_t count_;
  std::vector<A> buffer_;
};

// Mean and sum of squared deviations of each channel.
template <class T>
void find_moments(const Tensor& feats, Accumulator<T>* mean, Accumulator<T>* deviation) {
  using A = Accumulator<T>;
  const int64_t rows = feats.size(0), channels = feats.size(1);
  const auto& kernels = batch_norm_rows<A>(cpu_capability());
  std::vector<A> means(ceil_div(rows, kBlockRows) * channels), deviations(means.size());
  parallel_blocks(rows, kBlockRows, [&](int64_t block, int64_t begin, int64_t end) {
    RowBuffer<T> rows_of(data_of<T>(feats), begin, end, channels);
    const A* values = rows_of.read();
    A *sums = means.data() + block * channels, *squares = deviations.data() + block * channels;
    kernels.add_moments({end - begin, channels}, values, values, sums, squares);
    const A count = static_cast<A>(end - begin);
    for (int64_t c = 0; c < channels; ++c) {
      squares[c] = std::max(squares[c] - sums[c] * sums[c] / count, A(0));
      sums[c] = values[c] + sums[c] / count;  // about the first row
    }
  });
  std::vector<double> total(channels), spread(channels);
  const auto each_block = [&](const auto& f) {
    for (int64_t block = 0, begin = 0; begin < rows; ++block, begin += kBlockRows) {
      const double count = static_cast<double>(std::min(kBlockRows, rows - begin));
      for (int64_t c = 0; c < channels; ++c) f(c, block * channels + c, count);
    }
  };
  each_block([&](int64_t c, int64_t i, double count) { total[c] += count * means[i]; });
  each_block([&](int64_t c, int64_t i, double count) {
    const double distance = means[i] - total[c] / rows;
    spread[c] += deviations[i] + count * distance * distance;
  });
  for (int64_t c = 0; c < channels; ++c) mean[c] = total[c] / rows, deviation[c] = spread[c];
}

template <class T>
void normalise_rows(const Tensor& feats, const std::optional<Tensor>& residual, const ChannelNorm<Accumulator<T>>& norm,
                    const Tensor& out) {
  const int64_t channels = feats.size(1);
  const auto& kernels = batch_norm_rows<Accumulator<T>>(cpu_capability());
  parallel_blocks(feats.size(0), kBlockRows, [&](int64_t, int64_t begin, int64_t end) {
    RowBuffer<T> values(data_of<T>(feats), begin, end, channels), added(data_of<T>(residual), begin, end, channels);
    RowBuffer<T> results(data_of<T>(out), begin, end, channels);
    kernels.normalise({end - begin, channels}, values.read(), added.read(), norm, results.to_write());
    results.written();
  });
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_train(Tensor feats, std::optional<Tensor> residual,
                                                    std::optional<Tensor> weight, std::optional<Tensor> bias,
                                                    std::optional<Tensor> running_mean, std::optional<Tensor> running_var,
                                                    std::optional<Tensor> num_batches_tracked, double momentum, double eps,
                                                    double negative_slope) {
  feats = as_contiguous(feats), residual = as_contiguous(residual);
  weight = as_contiguous(weight), bias = as_contiguous(bias);
  check_batch_norm("batch_norm_train", feats, residual, weight, bias, running_mean, running_var);
  check_num_batches("batch_norm_train", num_batches_tracked);
  const int64_t rows = feats.size(0), channels = feats.size(1);
  const Tensor out = torch::stable::new_empty(feats, {rows, channels});
  const Tensor mean = torch::stable::new_empty(feats, {channels}, statistics_dtype(feats));
  const Tensor invstd = torch::stable::new_empty(mean, {channels});
  if (num_batches_tracked) ++*data_of<int64_t>(num_batches_tracked);
  dispatch_float(feats.scalar_type(), "batch_norm_train", [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const RunningStatistics<T> running{parameter<T>(running_mean), parameter<T>(running_var),
                                       data_of<int64_t>(num_batches_tracked), momentum};
    const Parameter<T> weights = parameter<T>(weight), biases = parameter<T>(bias);
    std::vector<A> deviation(channels), scale(channels), shift(channels);
    find_moments<T>(feats, data_of<A>(mean), deviation.data());
    for (int64_t c = 0; c < channels; ++c) {
      data_of<A>(invstd)[c] = 1 / std::sqrt(deviation[c] / static_cast<A>(rows) + static_cast<A>(eps));
      scale[c] = data_of<A>(invstd)[c] * weights.get(c, 1), shift[c] = biases.get(c, 0);
      running.update(c, data_of<A>(mean)[c], deviation[c] / static_cast<A>(rows - 1));
    }
    const ChannelNorm<A> norm{data_of<A>(mean), scale.data(), shift.data(), static_cast<A>(negative_slope)};
    normalise_rows<T>(feats, residual, norm, out);
  });
  return {out, mean, invstd};
}

Tensor batch_norm_inference(Tensor feats, std::optional<Tensor> residual, Tensor mean, Tensor var,
                            std::optional<Tensor> weight, std::optional<Tensor> bias, double eps, double negative_slope) {
  feats = as_contiguous(feats), residual = as_contiguous(residual);
  weight = as_contiguous(weight), bias = as_contiguous(bias);
  mean = as_contiguous(mean), var = as_contiguous(var);
  check_batch_norm("batch_norm_inference", feats, residual, weight, bias, mean, var);
  const int64_t channels = feats.size(1);
  const Tensor out = torch::stable::new_empty(feats, {feats.size(0), channels});
  dispatch_float(feats.scalar_type(), "batch_norm_inference", [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const Parameter<T> means = parameter<T>(mean), vars = parameter<T>(var);
    const Parameter<T> weights = parameter<T>(weight), biases = parameter<T>(bias);
    std::vector<A> centre(channels), scale(channels), shift(channels);
    for (int64_t c = 0; c < channels; ++c) {
      centre[c] = means.get(c, 0), shift[c] = biases.get(c, 0);
      scale[c] = weights.get(c, 1) / std::sqrt(vars.get(c, 1) + static_cast<A>(eps));
    }
    const ChannelNorm<A> norm{centre.data(), scale.data(), shift.data(), static_cast<A>(negative_slope)};
    normalise_rows<T>(feats, residual, norm, out);
  });
  return out;
}

template <class T>
void differentiate(const BatchNormGrad<T>& args, T* grad_feats, T* grad_residual, Accumulator<T>* grad_weight,
                   Accumulator<T>* grad_bias) {
  using A = Accumulator<T>;
  const int64_t rows = args.rows, channels = args.channels;
  const auto& kernels = batch_norm_rows<A>(cpu_capability());
  std::vector<A> sums(ceil_div(rows, kBlockRows) * channels), products(sums.size());
  parallel_blocks(rows, kBlockRows, [&](int64_t block, int64_t begin, int64_t end) {
    RowBuffer<T> values(args.feats, begin, end, channels), grads(args.grad, begin, end, channels);
    RowBuffer<T> outputs(args.out, begin, end, channels);
    kernels.add_grads({end - begin, channels}, grads.read(), outputs.read(), values.read(), args.mean, args.negative_slope,
                      sums.data() + block * channels, products.data() + block * channels);
  });
  std::vector<A> scale(channels), mean_grad(channels), slope(channels);
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0, product = 0;
    for (size_t i = c; i < sums.size(); i += channels) sum += sums[i], product += products[i];
    const A invstd = args.invstd[c];
    grad_bias[c] = sum, grad_weight[c] = product * invstd;
    scale[c] = args.weight.get(c, 1) * invstd, mean_grad[c] = sum / static_cast<A>(rows);
    slope[c] = product * invstd * invstd / static_cast<A>(rows);
  }
  const ChannelGrad<A> norm{args.mean, scale.data(), mean_grad.data(), slope.data(), args.negative_slope};
  parallel_blocks(rows, kBlockRows, [&](int64_t, int64_t begin, int64_t end) {
    RowBuffer<T> values(args.feats, begin, end, channels), grads(args.grad, begin, end, channels);
    RowBuffer<T> outputs(args.out, begin, end, channels), results(grad_feats, begin, end, channels);
    RowBuffer<T> residuals(grad_residual, begin, end, channels);
    kernels.differentiate({end - begin, channels}, grads.read(), outputs.read(), values.read(), norm, residuals.to_write(),
                          results.to_write());
    results.written(), residuals.written();
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_backward(Tensor grad, Tensor feats, std::optional<Tensor> out,
                                                               Tensor mean, Tensor invstd, std::optional<Tensor> weight,
                                                               bool with_residual, double negative_slope) {
  constexpr const char* op = "batch_norm_backward";
  grad = as_contiguous(grad), feats = as_contiguous(feats), out = as_contiguous(out);
  mean = as_contiguous(mean), invstd = as_contiguous(invstd), weight = as_contiguous(weight);
  check_batch_norm_grad(op, grad, feats, out, mean, invstd, weight, with_residual);
  const int64_t rows = feats.size(0), channels = feats.size(1);
  const Tensor grad_feats = torch::stable::new_empty(feats, {rows, channels});
  const Tensor grad_residual = torch::stable::new_empty(feats, {with_residual ? rows : 0, channels});
  const Tensor grad_weight = torch::stable::new_empty(mean, {channels});
  const Tensor grad_bias = torch::stable::new_empty(mean, {channels});
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const BatchNormGrad<T> args{data_of<T>(grad),     data_of<T>(feats),    data_of<T>(out),
                                data_of<A>(mean),     data_of<A>(invstd),   parameter<T>(weight),
                                static_cast<A>(negative_slope), rows, channels};
    differentiate<T>(args, data_of<T>(grad_feats), with_residual ? data_of<T>(grad_residual) : nullptr,
                     data_of<A>(grad_weight), data_of<A>(grad_bias));
  });
  return {grad_feats, grad_residual, grad_weight, grad_bias};
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("batch_norm_train", TORCH_BOX(&pcperc::batch_norm_train));
  m.impl("batch_norm_inference", TORCH_BOX(&pcperc::batch_norm_inference));
  m.impl("batch_norm_backward", TORCH_BOX(&pcperc::batch_norm_backward));
}

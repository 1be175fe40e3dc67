// Sum of the focal loss over one level of the pyramid, and its gradient, in one
// pass over the logits. The formula of one element in u = -x_t, see README.md:
//
//     1 - p_t = sigmoid(u)            ce = softplus(u) - epsilon / 2 * u
//     FL      = a_t * sigmoid(u)^gamma * ce
//     dFL/du  = a_t * sigmoid(u)^gamma
//                   * (gamma * sigmoid(-u) * ce + sigmoid(u) - epsilon / 2)
//
// with label smoothing epsilon. Everything is computed from e = exp(-|u|) <= 1 and
// log(1 + e), so nothing overflows.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

namespace {

// Elements per tile. The data of a tile fits the L1 cache.
constexpr int64_t kTile = 1024;

struct Bfloat16 {
  uint16_t bits;
};

inline float load(float x) { return x; }
inline float load(Bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline void store(float value, float* out) { *out = value; }
inline void store(float value, Bfloat16* out) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);  // to nearest even
  const uint32_t quiet_nan = bits | 0x400000;
  out->bits = static_cast<uint16_t>((value != value ? quiet_nan : rounded) >> 16);
}

// exp(x) for x <= 0, to 2 units in the last place. Clamped where fp32 would
// become denormal. NaN stays NaN.
inline float exp_of_nonpositive(float x) {
  x = x < -87.3f ? -87.3f : x;
  const int32_t n = static_cast<int32_t>(x * 1.44269504f - 0.5f);
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float poly = 1.9875691500e-4f;
  poly = poly * r + 1.3981999507e-3f;
  poly = poly * r + 8.3334519073e-3f;
  poly = poly * r + 4.1665795894e-2f;
  poly = poly * r + 1.6666665459e-1f;
  poly = poly * r + 5.0000001201e-1f;
  poly = poly * r * r + r + 1.0f;
  const uint32_t exponent = static_cast<uint32_t>(n + 127) << 23;
  float power;
  std::memcpy(&power, &exponent, sizeof power);
  return poly * power;
}

struct Formula {
  float gamma;
  float half_epsilon;
};

// Output besides the sum: nothing, the gradient, or the loss of each anchor.
enum class Want { kSum, kGradient, kAnchors };

// Sum of the weighted loss of n elements; also their gradient times `scale`, or the
// loss of each. sign is 1 if y = 0 and -1 if y = 1; weight is a_t times the anchor's.
template <typename T, Want kWant, bool kGammaIsTwo>
float focal_tile(const T* x, T* grad, float* losses, const float* sign,
                 const float* weight, int64_t n, Formula formula, float scale) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    // Infinity times 0 would be NaN: here for elements without weight, below in
    // p_t * ce (which goes to 0), for gamma = 0, and in the smoothing of infinite
    // logits. Values are selected instead of branching, so that the loop is vectorised.
    const float signed_logit = sign[i] * load(x[i]);
    const float u = weight[i] != 0 ? signed_logit : 0.0f;
    const float e = exp_of_nonpositive(-std::fabs(u));
    // 1 / (1 + e) and e / (2 + e) from one division.
    const float inverse = 1.0f / ((1.0f + e) * (2.0f + e));
    const float larger = inverse * (2.0f + e);  // sigmoid(|u|)
    const float smaller = e * larger;           // sigmoid(-|u|)
    const float z = e * inverse * (1.0f + e);
    // log(1 + e) = 2 artanh(z), whose series in z^2 <= 1/9 converges fast.
    const float s = z * z;
    float series = 2.0f / 13;
    series = series * s + 2.0f / 11;
    series = series * s + 2.0f / 9;
    series = series * s + 2.0f / 7;
    series = series * s + 2.0f / 5;
    series = series * s + 2.0f / 3;
    const float log_1p_e = z * (series * s + 2.0f);

    const bool is_positive = u > 0;
    const float one_minus_p_t = is_positive ? larger : smaller;
    const float p_t = is_positive ? smaller : larger;
    const float at_least = u < -1e30f ? -1e30f : u;  // NaN stays NaN
    const float finite = at_least > 1e30f ? 1e30f : at_least;
    const float smoothing =
        formula.half_epsilon != 0 ? formula.half_epsilon * finite : 0.0f;
    const float softplus = (is_positive ? u : 0.0f) + log_1p_e;
    const float cross_entropy = softplus - smoothing;
    const float negative_part = is_positive ? 0.0f : at_least;
    const float modulating =
        kGammaIsTwo
            ? one_minus_p_t * one_minus_p_t
            : exp_of_nonpositive(formula.gamma * (negative_part - log_1p_e));
    const float loss = weight[i] * modulating * cross_entropy;
    sum += loss;
    if (kWant == Want::kAnchors) losses[i] = loss;
    if (kWant == Want::kGradient) {
      const float bounded = (softplus > 88.0f ? 88.0f : softplus) - smoothing;
      const float slope =
          formula.gamma * p_t * bounded + one_minus_p_t - formula.half_epsilon;
      store(scale * sign[i] * weight[i] * modulating * slope, grad + i);
    }
  }
  return sum;
}

// One level: B images of A anchors in each of HW cells, K classes.
struct Level {
  int64_t batch, anchors_per_cell, num_classes, cells;
  const int64_t* targets;   // (B, ...) class, K for background; at this level's first
  const float* weights;     // likewise, or null for 1
  int64_t anchors_in_batch;  // from one image's targets to the next one's
  int64_t ignore_index;
  const float* alpha_pos;  // (K), a_t where y = 1
  const float* alpha_neg;  // (K), a_t where y = 0

  float anchor_weight(int64_t anchor) const {
    if (targets[anchor] == ignore_index) return 0;
    return weights == nullptr ? 1 : weights[anchor];
  }
};

// (B, A*K, H, W) contiguous: a tile is a run of cells of one anchor and class.
template <typename T, Want kWant, bool kGammaIsTwo>
double focal_planes(const T* x, T* grad, float* anchor_losses, const Level& level,
                    Formula formula, float scale, int threads) {
  const int64_t tiles = (level.cells + kTile - 1) / kTile;
  const int64_t units = level.batch * level.anchors_per_cell * tiles;
  std::vector<double> sums(units);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t unit = 0; unit < units; ++unit) {
    const int64_t first_cell = unit % tiles * kTile;
    const int64_t plane = unit / tiles;  // b * A + a
    const int64_t b = plane / level.anchors_per_cell;
    const int64_t a = plane % level.anchors_per_cell;
    const int64_t n = std::min(kTile, level.cells - first_cell);
    int32_t label[kTile];
    float anchor_weight[kTile], sign[kTile], weight[kTile];
    float losses[kTile], of_anchor[kTile] = {};
    for (int64_t i = 0; i < n; ++i) {
      const int64_t anchor = b * level.anchors_in_batch +
                             (first_cell + i) * level.anchors_per_cell + a;
      label[i] = static_cast<int32_t>(level.targets[anchor]);
      anchor_weight[i] = level.anchor_weight(anchor);
    }
    for (int64_t k = 0; k < level.num_classes; ++k) {
      const float alpha_pos = level.alpha_pos[k], alpha_neg = level.alpha_neg[k];
      for (int64_t i = 0; i < n; ++i) {
        const bool y = label[i] == k;
        sign[i] = y ? -1.0f : 1.0f;
        weight[i] = anchor_weight[i] * (y ? alpha_pos : alpha_neg);
      }
      const int64_t at = (plane * level.num_classes + k) * level.cells + first_cell;
      sums[unit] += focal_tile<T, kWant, kGammaIsTwo>(
          x + at, kWant == Want::kGradient ? grad + at : nullptr, losses, sign, weight,
          n, formula, scale);
      if (kWant == Want::kAnchors) {
        for (int64_t i = 0; i < n; ++i) of_anchor[i] += losses[i];
      }
    }
    if (kWant == Want::kAnchors) {
      for (int64_t i = 0; i < n; ++i) {
        anchor_losses[b * level.anchors_in_batch +
                      (first_cell + i) * level.anchors_per_cell + a] = of_anchor[i];
      }
    }
  }
  double sum = 0;  // in a fixed order, whatever the number of threads
  for (const double part : sums) sum += part;
  return sum;
}

// Channels last, (B, H, W, A*K): a tile is a run of anchors with all classes.
template <typename T, Want kWant, bool kGammaIsTwo>
double focal_rows(const T* x, T* grad, float* anchor_losses, const Level& level,
                  Formula formula, float scale, int threads) {
  const int64_t num_classes = level.num_classes;
  const int64_t anchors = level.cells * level.anchors_per_cell;  // of one image
  const int64_t anchors_per_tile = std::max<int64_t>(1, kTile / num_classes);
  const int64_t tiles = (anchors + anchors_per_tile - 1) / anchors_per_tile;
  const int64_t units = level.batch * tiles;
  std::vector<double> sums(units);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t unit = 0; unit < units; ++unit) {
    const int64_t b = unit / tiles;
    const int64_t first = unit % tiles * anchors_per_tile;
    const int64_t count = std::min(anchors_per_tile, anchors - first);
    float sign[kTile], weight[kTile], losses[kTile];
    // More than one run of classes only where a row is longer than a tile.
    for (int64_t first_class = 0; first_class < num_classes; first_class += kTile) {
      const int64_t classes = std::min(kTile, num_classes - first_class);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t anchor = b * level.anchors_in_batch + first + i;
        const float anchor_weight = level.anchor_weight(anchor);
        float* row_sign = sign + i * classes;
        float* row_weight = weight + i * classes;
        for (int64_t k = 0; k < classes; ++k) {
          row_sign[k] = 1;
          row_weight[k] = anchor_weight * level.alpha_neg[first_class + k];
        }
        const int64_t y = level.targets[anchor] - first_class;
        if (y >= 0 && y < classes) {
          row_sign[y] = -1;
          row_weight[y] = anchor_weight * level.alpha_pos[first_class + y];
        }
      }
      const int64_t at = (b * anchors + first) * num_classes + first_class;
      sums[unit] += focal_tile<T, kWant, kGammaIsTwo>(
          x + at, kWant == Want::kGradient ? grad + at : nullptr, losses, sign, weight,
          count * classes, formula, scale);
      if (kWant == Want::kAnchors) {
        float* of_anchor = anchor_losses + b * level.anchors_in_batch + first;
        for (int64_t i = 0; i < count; ++i) {
          const float* row = losses + i * classes;
          const float sum = std::accumulate(row, row + classes, 0.0f);
          of_anchor[i] = first_class == 0 ? sum : of_anchor[i] + sum;
        }
      }
    }
  }
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

template <typename T, Want kWant>
double focal_level(const void* x, void* grad, float* anchor_losses,
                   bool channels_last, const Level& level, Formula formula,
                   float scale, int threads) {
  const bool gamma_is_two = formula.gamma == 2;
  const auto run = channels_last ? (gamma_is_two ? focal_rows<T, kWant, true>
                                                 : focal_rows<T, kWant, false>)
                                 : (gamma_is_two ? focal_planes<T, kWant, true>
                                                 : focal_planes<T, kWant, false>);
  return run(static_cast<const T*>(x), static_cast<T*>(grad), anchor_losses, level,
             formula, scale, threads);
}

template <typename T>
double focal_level(const void* x, void* grad, float* anchor_losses,
                   bool channels_last, const Level& level, Formula formula,
                   float scale, int threads) {
  const auto run = grad != nullptr            ? focal_level<T, Want::kGradient>
                   : anchor_losses != nullptr ? focal_level<T, Want::kAnchors>
                                              : focal_level<T, Want::kSum>;
  return run(x, grad, anchor_losses, channels_last, level, formula, scale, threads);
}

}  // namespace

// Returns the sum of the loss without `scale`. If grad is not null, writes scale *
// gradient to it. Otherwise, if anchor_losses is not null, writes the loss of each
// anchor to it, laid out like targets.
extern "C" double focal_loss(const void* x, void* grad, float* anchor_losses,
                             int is_bfloat16, int channels_last, int64_t batch,
                             int64_t anchors_per_cell, int64_t num_classes,
                             int64_t cells, const int64_t* targets,
                             const float* weights, int64_t anchors_in_batch,
                             int64_t ignore_index, const float* alpha_pos,
                             const float* alpha_neg, float gamma,
                             float label_smoothing, float scale, int threads) {
  const Level level{batch,   anchors_per_cell, num_classes,  cells,     targets,
                    weights, anchors_in_batch, ignore_index, alpha_pos, alpha_neg};
  const Formula formula{gamma, label_smoothing / 2};
  const auto run = is_bfloat16 ? focal_level<Bfloat16> : focal_level<float>;
  return run(x, grad, anchor_losses, channels_last != 0, level, formula, scale,
             threads);
}

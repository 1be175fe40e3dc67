// The transforms of Winograd's 3x3 convolution, F(4x4, 3x3) (Lavin and Gray,
// "Fast Algorithms for Convolutional Neural Networks", 2016), with the points
// 0, 1, -1, 2, -2 and infinity. Between them, the caller multiplies matrices.
//
// Images are (B, H, W, C), fp32. A tile is 4x4 pixels; its index counts the tiles
// of a row, then the rows, then the images. Each transform of images processes
// `count` tiles starting at `first`; transformed tiles are (36, count, C). Weights are
// (O, 3, 3, C), transformed (36, O, C). Functions that return a number return 1 if all
// they wrote is finite, else 0.

#include <algorithm>
#include <cstdint>

namespace {

constexpr int kPixels = 4;             // output pixels in a row of a tile
constexpr int kPoints = kPixels + 2;   // transformed points in each direction
constexpr int kLanes = 16;             // channels at a time: a cache line

using Lanes = float[kLanes];

// B^T: six pixels of the input to six points.
inline void to_points_of_input(const Lanes* in, int step, Lanes* out, int out_step) {
  for (int c = 0; c < kLanes; ++c) {
    const float d0 = in[0][c], d1 = in[step][c], d2 = in[2 * step][c];
    const float d3 = in[3 * step][c], d4 = in[4 * step][c], d5 = in[5 * step][c];
    const float a = d4 - 4 * d2, b = d3 - 4 * d1, e = d4 - d2, f = 2 * (d3 - d1);
    out[0][c] = 4 * d0 - 5 * d2 + d4;
    out[out_step][c] = a + b;
    out[2 * out_step][c] = a - b;
    out[3 * out_step][c] = e + f;
    out[4 * out_step][c] = e - f;
    out[5 * out_step][c] = 4 * d1 - 5 * d3 + d5;
  }
}

// A^T: six points to four pixels of the output.
inline void to_pixels(const Lanes* in, int step, Lanes* out, int out_step) {
  for (int c = 0; c < kLanes; ++c) {
    const float m1 = in[step][c], m2 = in[2 * step][c];
    const float m3 = in[3 * step][c], m4 = in[4 * step][c];
    const float a = m1 + m2, b = m1 - m2, e = m3 + m4, f = m3 - m4;
    out[0][c] = in[0][c] + a + e;
    out[out_step][c] = b + 2 * f;
    out[2 * out_step][c] = a + 4 * e;
    out[3 * out_step][c] = b + 8 * f + in[5 * step][c];
  }
}

// A: four pixels of the output's gradient to six points.
inline void to_points_of_output(const Lanes* in, int step, Lanes* out, int out_step) {
  for (int c = 0; c < kLanes; ++c) {
    const float g0 = in[0][c], g1 = in[step][c];
    const float g2 = in[2 * step][c], g3 = in[3 * step][c];
    const float a = g0 + g2, b = g1 + g3, e = g0 + 4 * g2, f = 2 * g1 + 8 * g3;
    out[0][c] = g0;
    out[out_step][c] = a + b;
    out[2 * out_step][c] = a - b;
    out[3 * out_step][c] = e + f;
    out[4 * out_step][c] = e - f;
    out[5 * out_step][c] = g3;
  }
}

// G: three weights to six points.
inline void to_points_of_weight(const Lanes* in, int step, Lanes* out, int out_step) {
  for (int c = 0; c < kLanes; ++c) {
    const float g0 = in[0][c], g1 = in[step][c], g2 = in[2 * step][c];
    const float a = (g0 + g2) * (-1.f / 6), b = g1 * (-1.f / 6);
    const float e = g0 * (1.f / 24) + g2 * (1.f / 6), f = g1 * (1.f / 12);
    out[0][c] = g0 * (1.f / 4);
    out[out_step][c] = a + b;
    out[2 * out_step][c] = a - b;
    out[3 * out_step][c] = e + f;
    out[4 * out_step][c] = e - f;
    out[5 * out_step][c] = g2;
  }
}

// G^T: six points to the gradient of three weights.
inline void to_weights(const Lanes* in, int step, Lanes* out, int out_step) {
  for (int c = 0; c < kLanes; ++c) {
    const float m1 = in[step][c], m2 = in[2 * step][c];
    const float m3 = in[3 * step][c], m4 = in[4 * step][c];
    const float a = (m1 + m2) * (-1.f / 6), e = m3 + m4;
    out[0][c] = in[0][c] * (1.f / 4) + a + e * (1.f / 24);
    out[out_step][c] = (m2 - m1) * (1.f / 6) + (m3 - m4) * (1.f / 12);
    out[2 * out_step][c] = a + e * (1.f / 6) + in[5 * step][c];
  }
}

struct Image {
  int64_t height, width, channels;

  int64_t tile_rows() const { return (height + kPixels - 1) / kPixels; }
  int64_t tile_columns() const { return (width + kPixels - 1) / kPixels; }
};

struct Corner {
  int64_t image, y, x;  // position of the tile's first pixel
};

Corner corner_of(const Image& image, int64_t tile) {
  const int64_t column = tile % image.tile_columns();
  const int64_t row = tile / image.tile_columns();
  return {row / image.tile_rows(), row % image.tile_rows() * kPixels,
          column * kPixels};
}

inline void read_lanes(const float* from, int lanes, Lanes& to) {
  if (lanes == kLanes) {
    std::copy_n(from, kLanes, to);
  } else {
    std::fill_n(std::copy_n(from, lanes, to), kLanes - lanes, 0.f);
  }
}

inline void write_lanes(const Lanes& from, int lanes, float* to) {
  if (lanes == kLanes) {
    std::copy_n(from, kLanes, to);
  } else {
    std::copy_n(from, lanes, to);
  }
}

// kSize x kSize pixels starting at (y, x), zero outside the image.
template <int kSize>
void read_pixels(const float* source, const Image& image, int64_t b, int64_t y,
                 int64_t x, int64_t channel, int lanes, Lanes* out) {
  for (int i = 0; i < kSize; ++i) {
    for (int j = 0; j < kSize; ++j) {
      Lanes& pixel = out[i * kSize + j];
      if (y + i < 0 || y + i >= image.height || x + j < 0 || x + j >= image.width) {
        std::fill_n(pixel, kLanes, 0.f);
        continue;
      }
      const int64_t at = (b * image.height + y + i) * image.width + x + j;
      read_lanes(source + at * image.channels + channel, lanes, pixel);
    }
  }
}

// Sum of 0 * x, which is 0 if all x are finite, else NaN.
inline void add_zero_times(const Lanes& values, Lanes& sums) {
  for (int c = 0; c < kLanes; ++c) sums[c] += 0.f * values[c];
}

bool are_zero(const Lanes& sums) {
  return std::all_of(sums, sums + kLanes, [](float sum) { return sum == 0; });
}

int lanes_from(int64_t channel, int64_t channels) {
  return static_cast<int>(std::min<int64_t>(kLanes, channels - channel));
}

// Transforms kSize x kSize pixels of each tile, starting at `offset`, to points.
template <int kSize, typename Transform>
void to_points(const float* source, float* points, const Image& image, int64_t first,
               int64_t count, int offset, int threads, Transform transform) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t tile = 0; tile < count; ++tile) {
    const Corner corner = corner_of(image, first + tile);
    for (int64_t channel = 0; channel < image.channels; channel += kLanes) {
      const int lanes = lanes_from(channel, image.channels);
      alignas(64) Lanes pixels[kSize * kSize], half[kPoints * kSize];
      alignas(64) Lanes whole[kPoints * kPoints];
      read_pixels<kSize>(source, image, corner.image, corner.y + offset,
                         corner.x + offset, channel, lanes, pixels);
      for (int j = 0; j < kSize; ++j) transform(pixels + j, kSize, half + j, kSize);
      for (int i = 0; i < kPoints; ++i)
        transform(half + i * kSize, 1, whole + i * kPoints, 1);
      for (int point = 0; point < kPoints * kPoints; ++point)
        write_lanes(whole[point], lanes,
                    points + (point * count + tile) * image.channels + channel);
    }
  }
}

}  // namespace

extern "C" void winograd_input(const float* input, float* points, int64_t height,
                               int64_t width, int64_t channels, int64_t first,
                               int64_t count, int threads) {
  // A lambda is inlined; a function pointer is not.
  to_points<kPoints>(
      input, points, {height, width, channels}, first, count, -1, threads,
      [](const Lanes* in, int step, Lanes* out, int out_step) {
        to_points_of_input(in, step, out, out_step);
      });
}

extern "C" void winograd_gradient(const float* gradient, float* points, int64_t height,
                                  int64_t width, int64_t channels, int64_t first,
                                  int64_t count, int threads) {
  to_points<kPixels>(
      gradient, points, {height, width, channels}, first, count, 0, threads,
      [](const Lanes* in, int step, Lanes* out, int out_step) {
        to_points_of_output(in, step, out, out_step);
      });
}

// bias may be null.
extern "C" int winograd_output(const float* points, const float* bias, float* output,
                               int64_t height, int64_t width, int64_t channels,
                               int64_t first, int64_t count, int threads) {
  const Image image{height, width, channels};
  int all_finite = 1;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(& : all_finite)
  for (int64_t tile = 0; tile < count; ++tile) {
    const Corner corner = corner_of(image, first + tile);
    const int64_t rows = std::min<int64_t>(kPixels, height - corner.y);
    const int64_t columns = std::min<int64_t>(kPixels, width - corner.x);
    alignas(64) Lanes check = {};
    for (int64_t channel = 0; channel < channels; channel += kLanes) {
      const int lanes = lanes_from(channel, channels);
      alignas(64) Lanes whole[kPoints * kPoints], half[kPixels * kPoints];
      alignas(64) Lanes pixels[kPixels * kPixels];
      alignas(64) Lanes shift = {};
      if (bias != nullptr) std::copy_n(bias + channel, lanes, shift);
      for (int point = 0; point < kPoints * kPoints; ++point) {
        read_lanes(points + (point * count + tile) * channels + channel, lanes,
                   whole[point]);
      }
      for (int j = 0; j < kPoints; ++j)
        to_pixels(whole + j, kPoints, half + j, kPoints);
      for (int i = 0; i < kPixels; ++i)
        to_pixels(half + i * kPoints, 1, pixels + i * kPixels, 1);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          Lanes& pixel = pixels[i * kPixels + j];
          for (int c = 0; c < kLanes; ++c) pixel[c] += shift[c];
          add_zero_times(pixel, check);
          const int64_t row = corner.image * height + corner.y + i;
          write_lanes(pixel, lanes,
                      output + (row * width + corner.x + j) * channels + channel);
        }
      }
    }
    all_finite &= are_zero(check);
  }
  return all_finite;
}

// flipped: weights turned by 180 degrees, for the gradient of the input.
extern "C" void winograd_weight(const float* weight, float* points, int64_t outputs,
                                int64_t channels, int flipped, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t channel = 0; channel < channels; channel += kLanes) {
      const int lanes = lanes_from(channel, channels);
      alignas(64) Lanes weights[9], half[kPoints * 3], whole[kPoints * kPoints];
      for (int i = 0; i < 9; ++i)
        read_lanes(weight + (o * 9 + (flipped ? 8 - i : i)) * channels + channel, lanes,
                   weights[i]);
      for (int j = 0; j < 3; ++j) to_points_of_weight(weights + j, 3, half + j, 3);
      for (int i = 0; i < kPoints; ++i)
        to_points_of_weight(half + i * 3, 1, whole + i * kPoints, 1);
      for (int point = 0; point < kPoints * kPoints; ++point)
        write_lanes(whole[point], lanes,
                    points + (point * outputs + o) * channels + channel);
    }
  }
}

extern "C" int winograd_weight_gradient(const float* points, float* gradient,
                                        int64_t outputs, int64_t channels,
                                        int threads) {
  int all_finite = 1;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(& : all_finite)
  for (int64_t o = 0; o < outputs; ++o) {
    alignas(64) Lanes check = {};
    for (int64_t channel = 0; channel < channels; channel += kLanes) {
      const int lanes = lanes_from(channel, channels);
      alignas(64) Lanes whole[kPoints * kPoints], half[3 * kPoints], weights[9];
      for (int point = 0; point < kPoints * kPoints; ++point)
        read_lanes(points + (point * outputs + o) * channels + channel, lanes,
                   whole[point]);
      for (int j = 0; j < kPoints; ++j) to_weights(whole + j, kPoints, half + j, kPoints);
      for (int i = 0; i < 3; ++i) to_weights(half + i * kPoints, 1, weights + i * 3, 1);
      for (int i = 0; i < 9; ++i) {
        add_zero_times(weights[i], check);
        write_lanes(weights[i], lanes, gradient + (o * 9 + i) * channels + channel);
      }
    }
    all_finite &= are_zero(check);
  }
  return all_finite;
}

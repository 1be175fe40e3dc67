// Max-IoU matching of anchors with the objects of a batch of images, in memory
// of O(anchors + objects). An object is compared with a block of anchors only if it
// touches the box around the block, because the IoU is 0 otherwise. This holds for
// finite boxes. Others may have an IoU of NaN and are left to plain.py.
//
// Compile with -ffp-contract=off: the IoU must equal that of plain.py to the last
// bit, or ties would break differently.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

constexpr int64_t kBlock = 256;

inline float larger(float a, float b) { return a > b ? a : b; }
inline float smaller(float a, float b) { return a < b ? a : b; }

struct Box {
  float x1, y1, x2, y2;
  float area() const { return (x2 - x1) * (y2 - y1); }
};

// The area of a box is not finite if a coordinate is not, or if it overflows.
inline bool is_finite(float area) {
  return std::abs(area) <= std::numeric_limits<float>::max();
}

// A block of anchors, one array per coordinate, and the box around it.
struct Block {
  float x1[kBlock], y1[kBlock], x2[kBlock], y2[kBlock], area[kBlock];
  Box around;
  int64_t first, size;
  bool finite = true;

  Block(const Box* anchors, int64_t num_anchors, int64_t index) {
    first = index * kBlock;
    size = std::min(kBlock, num_anchors - first);
    const float inf = std::numeric_limits<float>::infinity();
    around = {inf, inf, -inf, -inf};
    for (int64_t i = 0; i < size; ++i) {
      const Box anchor = anchors[first + i];
      x1[i] = anchor.x1, y1[i] = anchor.y1, x2[i] = anchor.x2, y2[i] = anchor.y2;
      area[i] = anchor.area();
      finite &= is_finite(area[i]);
      around.x1 = smaller(around.x1, anchor.x1);
      around.y1 = smaller(around.y1, anchor.y1);
      around.x2 = larger(around.x2, anchor.x2);
      around.y2 = larger(around.y2, anchor.y2);
    }
  }

  bool touches(const Box& gt) const {
    return gt.x1 < around.x2 && gt.x2 > around.x1 && gt.y1 < around.y2 &&
           gt.y2 > around.y1;
  }

  void compute_iou(const Box& gt, float* iou) const {
    const float gt_area = gt.area();
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) {
      const float width = larger(smaller(gt.x2, x2[i]) - larger(gt.x1, x1[i]), 0);
      const float height = larger(smaller(gt.y2, y2[i]) - larger(gt.y1, y1[i]), 0);
      const float intersection = width * height;
      const float area_union = gt_area + area[i] - intersection;
      iou[i] = intersection / larger(area_union, 1e-6f);
    }
  }
};

// Highest IoU of an object with any anchor, and the index of that anchor.
struct Best {
  float iou = 0;
  int64_t first_anchor = -1;
  int64_t last_block = -1;

  void merge(const Best& other) {  // of later anchors
    if (other.iou > iou) {
      *this = other;
    } else if (other.iou == iou && iou > 0) {
      last_block = std::max(last_block, other.last_block);
    }
  }
};

}  // namespace

// See native.py for the arguments. Image b has the objects gt_start[b] ..
// gt_start[b + 1]. Returns 0 if an area is not finite; the output is invalid then.
extern "C" int match_max_iou(const float* anchors_data, int64_t num_anchors,
                             const float* gts_data, const int64_t* gt_start,
                             int64_t batch, const uint8_t* excluded,
                             float pos_iou_thr, float neg_low, float neg_high,
                             float min_pos_iou, int match_low_quality,
                             int assign_all, int64_t* matched, float* max_ious,
                             int threads) {
  const Box* anchors = reinterpret_cast<const Box*>(anchors_data);
  const Box* gts = reinterpret_cast<const Box*>(gts_data);
  const int64_t num_gts = gt_start[batch];
  for (int64_t j = 0; j < num_gts; ++j) {
    if (!is_finite(gts[j].area())) return 0;
  }
  const int64_t num_blocks = (num_anchors + kBlock - 1) / kBlock;
  // One part per thread, each processed from front to back.
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, num_blocks));
  std::vector<std::vector<Best>> best_of_part(parts, std::vector<Best>(num_gts));

  bool finite = true;
#pragma omp parallel for schedule(static, 1) num_threads(threads) reduction(&& : finite)
  for (int64_t part = 0; part < parts; ++part) {
    Best* best = best_of_part[part].data();
    float iou[kBlock], max_iou[kBlock];
    int64_t best_gt[kBlock];
    for (int64_t index = num_blocks * part / parts;
         index < num_blocks * (part + 1) / parts; ++index) {
      const Block block(anchors, num_anchors, index);
      finite = finite && block.finite;
      for (int64_t b = 0; b < batch; ++b) {
        const int64_t offset = b * num_anchors + block.first;
        std::fill_n(max_iou, block.size, 0.0f);
        std::fill_n(best_gt, block.size, gt_start[b]);
        for (int64_t j = gt_start[b]; j < gt_start[b + 1]; ++j) {
          if (!block.touches(gts[j])) continue;
          block.compute_iou(gts[j], iou);
          if (excluded != nullptr) {
            for (int64_t i = 0; i < block.size; ++i) {
              iou[i] = excluded[offset + i] ? 0 : iou[i];
            }
          }
          float highest = 0;
#pragma omp simd reduction(max : highest)
          for (int64_t i = 0; i < block.size; ++i) {
            highest = larger(highest, iou[i]);
            best_gt[i] = iou[i] > max_iou[i] ? j : best_gt[i];  // first wins ties
            max_iou[i] = larger(max_iou[i], iou[i]);
          }
          if (highest > best[j].iou) {
            const int64_t at = std::find(iou, iou + block.size, highest) - iou;
            best[j] = {highest, block.first + at, index};
          } else if (highest == best[j].iou && highest > 0) {
            best[j].last_block = index;
          }
        }
        const bool has_objects = gt_start[b] < gt_start[b + 1];
        for (int64_t i = 0; i < block.size; ++i) {
          const bool is_excluded = excluded != nullptr && excluded[offset + i];
          const float iou_here = is_excluded ? -1 : max_iou[i];
          int64_t result = -1;
          if (is_excluded) {
            result = -1;
          } else if (!has_objects) {
            result = 0;
          } else if (iou_here >= pos_iou_thr) {
            result = best_gt[i] + 1;
          } else if (iou_here >= neg_low && iou_here < neg_high) {
            result = 0;
          }
          matched[offset + i] = result;
          max_ious[offset + i] = iou_here;
        }
      }
    }
  }
  if (!finite) return 0;
  if (!match_low_quality) return 1;

  std::vector<Best> best = best_of_part[0];
  for (int64_t part = 1; part < parts; ++part) {
    for (int64_t j = 0; j < num_gts; ++j) best[j].merge(best_of_part[part][j]);
  }
  const auto claims = [&](int64_t j) {
    return best[j].iou > 0 && best[j].iou >= min_pos_iou;
  };
  if (!assign_all) {
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t j = gt_start[b]; j < gt_start[b + 1]; ++j) {
        if (claims(j)) matched[b * num_anchors + best[j].first_anchor] = j + 1;
      }
    }
    return 1;
  }
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads)
  for (int64_t index = 0; index < num_blocks; ++index) {
    const Block block(anchors, num_anchors, index);
    float iou[kBlock];
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t offset = b * num_anchors + block.first;
      for (int64_t j = gt_start[b]; j < gt_start[b + 1]; ++j) {  // the last one wins
        if (index < best[j].first_anchor / kBlock || index > best[j].last_block ||
            !claims(j) || !block.touches(gts[j])) {
          continue;
        }
        block.compute_iou(gts[j], iou);
        for (int64_t i = 0; i < block.size; ++i) {
          const bool is_excluded = excluded != nullptr && excluded[offset + i];
          if (iou[i] == best[j].iou && !is_excluded) matched[offset + i] = j + 1;
        }
      }
    }
  }
  return 1;
}

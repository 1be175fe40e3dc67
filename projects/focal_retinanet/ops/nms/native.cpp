// Non-maximum suppression of many groups, such as the classes of each image.
//
// Compile with -ffp-contract=off, so that the IoU equals that of mmcv's operator to
// the last bit.

#include <algorithm>
#include <cstdint>
#include <vector>

// boxes (n, 4) are xyxy, group by group, best score first within a group. Group g is
// group_start[g] .. group_start[g + 1]. keep (n) is set to 1 for boxes that stay.
// A group ends when `limit` of its boxes are kept.
extern "C" void nms(const float* boxes, const int64_t* group_start, int64_t groups,
                    float iou_threshold, int64_t limit, uint8_t* keep, int threads) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = group_start[g], n = group_start[g + 1] - first;
    std::vector<float> x1(n), y1(n), x2(n), y2(n), area(n);
    // 32 bits, the width of the IoU, so that the loop below is vectorised.
    std::vector<int32_t> suppressed(n, 0);
    for (int64_t i = 0; i < n; ++i) {
      const float* box = boxes + 4 * (first + i);
      x1[i] = box[0], y1[i] = box[1], x2[i] = box[2], y2[i] = box[3];
      area[i] = (x2[i] - x1[i]) * (y2[i] - y1[i]);
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i) {
      keep[first + i] = !suppressed[i] && kept < limit;
      if (!keep[first + i]) continue;
      ++kept;
      const float left = x1[i], top = y1[i], right = x2[i], bottom = y2[i];
      const float area_here = area[i];
#pragma omp simd
      for (int64_t j = i + 1; j < n; ++j) {
        const float l = left > x1[j] ? left : x1[j];
        const float t = top > y1[j] ? top : y1[j];
        const float r = right < x2[j] ? right : x2[j];
        const float b = bottom < y2[j] ? bottom : y2[j];
        const float width = r - l > 0 ? r - l : 0;
        const float height = b - t > 0 ? b - t : 0;
        const float intersection = width * height;
        const float iou = intersection / (area_here + area[j] - intersection);
        suppressed[j] |= iou > iou_threshold;
      }
    }
  }
}

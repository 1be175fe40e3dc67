// Places for the labels of boxes, so that no label lies over another; equal to
// labels/placement.py.
'use strict';

// Takes boxes [x1, y1, x2, y2], the most important first, and the sizes [width, height] of
// their labels. Returns [x1, y1, x2, y2] of each label within the image, or null.
function placeLabels(boxes, sizes, width, height) {
  const placed = [];
  const overlaps = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  return boxes.map((box, index) => {
    const size = [Math.min(sizes[index][0], width), Math.min(sizes[index][1], height)];
    const free = labelTries(box, size, width, height).find(
      (place) => !placed.some((other) => overlaps(place, other)));
    if (free) placed.push(free);
    return free ?? null;
  });
}

function labelTries([x1, y1, x2, y2], [w, h], width, height) {
  const corners = [
    [x1, y1 - h], // above, left
    [x1, y2], // below, left
    [x1, y1], // inside, top left
    [x2 - w, y1 - h], // above, right
    [x2 - w, y2], // below, right
    [x2 - w, y1], // inside, top right
    [x1, y2 - h], // inside, bottom left
    [x2 - w, y2 - h], // inside, bottom right
    [x2, y1], // right
    [x1 - w, y1], // left
    [x2, y2 - h],
    [x1 - w, y2 - h],
  ];
  const within = (value, room) => Math.min(Math.max(value, 0), room);
  const tries = corners.map(([x, y]) => {
    const [left, top] = [within(x, width - w), within(y, height - h)];
    const place = [left, top, Math.min(left + w, width), Math.min(top + h, height)];
    return { place, moved: top !== y };
  });
  // A place that has to move up or down is no longer at its box: it comes last.
  return [...tries.filter((one) => !one.moved), ...tries.filter((one) => one.moved)]
    .map((one) => one.place);
}

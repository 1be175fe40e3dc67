// The gallery: images with boxes, filtered and sorted, and one image at full size. Needs
// labels.js and window.reportData; without libraries or a network.
'use strict';

// ---- data --------------------------------------------------------------------

const loading = {};

// A page from disk may load scripts, but not fetch files.
function load(name) {
  loading[name] ??= new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = `data/${name}.js`;
    script.onload = () => resolve(window.reportData[name]);
    script.onerror = () => reject(new Error(`data/${name}.js is missing`));
    document.head.append(script);
  });
  return loading[name];
}

// ---- images and boxes --------------------------------------------------------

const SVG = 'http://www.w3.org/2000/svg';

function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

class Gallery {
  constructor(root) {
    this.root = root;
    this.form = root.querySelector('form');
    this.kinds = JSON.parse(root.dataset.kinds); // [name, group] by number
    this.classes = JSON.parse(root.dataset.classes);
    this.page = 0;
    this.pictures = new Map(); // by model and place; new boxes are drawn into them
    this.order = [];
    this.form.addEventListener('submit', (event) => event.preventDefault());
    this.form.addEventListener('input', (event) => {
      // Another score keeps the page; any other choice makes a new list.
      if (event.target.name !== 'score') this.page = 0;
      this.show();
    });
    root.querySelector('[name=previous]').addEventListener('click', () => this.turn(-1));
    root.querySelector('[name=next]').addEventListener('click', () => this.turn(1));
    this.best = root.querySelector('[name=best]');
    this.best.addEventListener('click', () => {
      this.form.elements.score.value = this.best.value;
      this.show();
    });
    root.querySelector('.grid').addEventListener('keydown', (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const pictures = [...root.querySelectorAll('.picture')];
      pictures[pictures.indexOf(event.target) + step]?.focus();
    });
  }

  get choice() {
    const { model, score, order, kind } = this.form.elements;
    return {
      model: model.value,
      score: Number(score.value),
      label: Number(this.form.elements.class.value),
      kind: kind.value,
      order: order.value,
    };
  }

  isWanted(choice, label, kind) {
    if (choice.label >= 0 && choice.label !== label) return false;
    if (choice.kind === 'all') return true;
    const group = this.kinds[kind][1];
    if (choice.kind === 'wrong') return group === 'wrong' || group === 'missed';
    return Number(choice.kind) === kind;
  }

  missedOf(choice, image) {
    return image.objects.filter(([label, score]) =>
      score < choice.score && (choice.label < 0 || choice.label === label)).length;
  }

  // Places of the images with a box to draw, in the chosen order.
  select(choice, index) {
    const missedKind = this.kinds.length - 1;
    const isShown = (image) =>
      (choice.kind === 'all' && choice.label < 0) ||
      image.best.some(([label, kind, score]) =>
        score >= choice.score && this.isWanted(choice, label, kind)) ||
      image.objects.some(([label, score]) =>
        score < choice.score && this.isWanted(choice, label, missedKind));
    const places = index.map((_, place) => place).filter((place) => isShown(index[place]));
    const by = {
      ap50: (a, b) => (index[a].ap50 ?? 2) - (index[b].ap50 ?? 2),
      missed: (a, b) => this.missedOf(choice, index[b]) - this.missedOf(choice, index[a]),
      file: (a, b) => index[a].file.localeCompare(index[b].file, undefined, { numeric: true }),
    };
    return places.sort((a, b) => by[choice.order](a, b) || a - b);
  }

  // The chosen boxes of an image: detections, the best first, then crowds and missed objects.
  boxesOf(choice, image) {
    const found = new Set();
    const boxes = [];
    const missedKind = this.kinds.length - 1;
    const ignoredKind = this.kinds.findIndex(([name]) => name === 'ignored');
    for (const [x1, y1, x2, y2, score, label, kind, object] of image.detections) {
      if (score < choice.score) continue;
      if (this.kinds[kind][0] === 'correct') found.add(object);
      boxes.push({ box: [x1, y1, x2, y2], score, label, kind });
    }
    image.objects.forEach(([x1, y1, x2, y2, label, crowd], number) => {
      if (crowd) boxes.push({ box: [x1, y1, x2, y2], label, kind: ignoredKind });
      else if (!found.has(number)) boxes.push({ box: [x1, y1, x2, y2], label, kind: missedKind });
    });
    return boxes.filter((one) => this.isWanted(choice, one.label, one.kind));
  }

  async show() {
    const choice = this.choice;
    const turn = (this.latest = Symbol('a later choice replaces this one while files load'));
    const status = this.root.querySelector('.status');
    this.form.elements.shown.value = choice.score.toFixed(2);
    try {
      const [index, classes] = await Promise.all(
        [choice.model, `${choice.model}-scores`].map(load));
      const size = Number(this.root.dataset.page);
      const order = this.select(choice, index);
      const pages = Math.max(1, Math.ceil(order.length / size));
      const page = Math.min(this.page, pages - 1);
      const places = order.slice(page * size, (page + 1) * size);
      const parts = [...new Set(places.map((place) => Math.floor(place / size)))];
      await Promise.all(parts.map((part) => load(`${choice.model}-${part}`)));
      if (turn !== this.latest) return;
      Object.assign(this, { page, pages, order });
      this.showNumbers(choice, classes);
      this.root.querySelector('.grid').replaceChildren(
        ...places.map((place) => this.picture(choice, place)));
      const missed = order.reduce((sum, place) => sum + this.missedOf(choice, index[place]), 0);
      const boxes = choice.label < 0 && choice.kind === 'all' ? '' : ' with these boxes';
      status.textContent =
        `${order.length} of ${index.length} images${boxes}, with ${missed} missed objects`;
    } catch (error) {
      status.textContent = `Not shown: ${error.message}`;
      return;
    }
    this.root.querySelector('.place').textContent = `page ${this.page + 1} of ${this.pages}`;
    this.root.querySelector('[name=previous]').disabled = this.page === 0;
    this.root.querySelector('[name=next]').disabled = this.page === this.pages - 1;
  }

  // Precision, recall and F1 of all images at the score, and where F1 is best.
  showNumbers(choice, classes) {
    const chosen = choice.label < 0 ? classes : [classes[choice.label]];
    const sum = (values) => values.reduce((total, value) => total + value, 0);
    const objects = sum(chosen.map((one) => one.objects));
    const points = chosen[0].right.map((_, index) => {
      const right = sum(chosen.map((one) => one.right[index]));
      const found = sum(chosen.map((one) => one.found[index]));
      return { precision: right / found, recall: right / objects, f1: (2 * right) / (found + objects) };
    });
    const percent = (value) => (Number.isNaN(value) ? '-' : `${(100 * value).toFixed(1)} %`);
    const name = choice.label < 0 ? 'all classes' : this.classes[choice.label];
    const { precision, recall, f1 } = points[Math.round(100 * choice.score)];
    this.root.querySelector('.threshold span').textContent =
      `From ${choice.score.toFixed(2)} on, all images, ${name}: precision ${percent(precision)}, ` +
      `recall ${percent(recall)}, F1 ${percent(f1)}.`;
    const highest = Math.max(...points.map((point) => point.f1));
    const equal = points.flatMap((point, index) => (point.f1 === highest ? [index] : []));
    const place = equal[Math.floor((equal.length - 1) / 2)]; // the middle, as in the table
    this.best.hidden = !(highest > 0);
    this.best.value = place / 100;
    this.best.textContent = `best F1: ${percent(highest)} at ${(place / 100).toFixed(2)}`;
    const mark = document.createElement('option');
    mark.value = this.best.value;
    this.root.querySelector('datalist').replaceChildren(...(highest > 0 ? [mark] : []));
  }

  turn(step) {
    this.page += step;
    return this.show();
  }

  record(model, place) {
    const size = Number(this.root.dataset.page);
    return window.reportData[`${model}-${Math.floor(place / size)}`][place % size];
  }

  picture(choice, place) {
    const key = `${choice.model} ${place}`;
    let button = this.pictures.get(key);
    if (!button) {
      const image = this.record(choice.model, place);
      button = document.createElement('button');
      button.type = 'button';
      button.className = 'picture';
      button.append(drawing(image), document.createElement('span'));
      button.addEventListener('click', () => large.open(this, button.dataset.place));
      this.pictures.set(key, button);
    }
    button.dataset.place = place;
    this.fill(choice, place, button.firstElementChild, button.lastElementChild);
    return button;
  }

  // Draw the boxes into a picture, and count them in its caption.
  fill(choice, place, picture, caption) {
    const image = this.record(choice.model, place);
    const boxes = this.boxesOf(choice, image);
    picture.querySelector('.boxes').replaceChildren(
      ...this.bestLast(boxes).flatMap((one) => this.draw(one)));
    const counts = {};
    for (const { kind } of boxes) {
      const group = this.kinds[kind][1];
      counts[group] = (counts[group] ?? 0) + 1;
    }
    const { ap50 } = window.reportData[choice.model][place];
    const parts = [
      ap50 === null ? 'no object' : `AP50 ${(100 * ap50).toFixed(1)}`,
      ...Object.entries(counts).map(([group, count]) => `${count} ${group}`),
    ];
    if (picture.dataset.absent) parts.push('image file not found');
    caption.textContent = `${image.file}: ${parts.join(', ')}`;
    return boxes;
  }

  // The order of drawing: correct over wrong boxes, the best of each on top. Missed
  // objects are dotted, so that a detection in the same place shows through.
  bestLast(boxes) {
    const rank = ({ kind }) =>
      ['ignored', 'wrong', 'right', 'missed'].indexOf(this.kinds[kind][1]);
    return [...boxes].reverse().sort((a, b) =>
      rank(a) - rank(b) || (a.score ?? 0) - (b.score ?? 0));
  }

  // Label the boxes of a visible picture, the best score first.
  label(picture, boxes) {
    const { width, height } = picture.viewBox.baseVal;
    const pixel = 1 / picture.getScreenCTM().a; // size of a screen pixel in the image
    const ranked = [...boxes].sort((a, b) => (b.score ?? -1) - (a.score ?? -1));
    const labels = ranked.map((one) => {
      const label = svg('g', { class: `label on-${this.kinds[one.kind][1]}` });
      const text = svg('text', { 'font-size': 12 * pixel, x: 0, y: 0 });
      text.textContent = this.name(one).replace(/: correct$/, '');
      label.append(svg('rect', {}), text);
      return label;
    });
    picture.querySelector('.labels').replaceChildren(...labels);
    const extents = labels.map((label) => label.lastElementChild.getBBox());
    const margin = 2 * pixel;
    const places = placeLabels(
      ranked.map((one) => one.box),
      extents.map((extent) => [extent.width + 2 * margin, extent.height]),
      width, height);
    places.forEach((place, index) => {
      if (!place) return labels[index].remove();
      const [x1, y1, x2, y2] = place;
      const [rect, text] = labels[index].children;
      for (const [key, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) {
        rect.setAttribute(key, value);
      }
      text.setAttribute('x', x1 + margin);
      text.setAttribute('y', y1 - extents[index].y);
    });
  }

  name({ score, label, kind }) {
    const [name] = this.kinds[kind];
    // Data files round down to thousandths; a little more restores the usual rounding.
    const number = score === undefined ? '' : ` ${(score + 1e-6).toFixed(2)}`;
    return `${this.classes[label]}${number}: ${name}`;
  }

  draw(one) {
    const [x1, y1, x2, y2] = one.box;
    const place = {
      x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0),
    };
    const rect = svg('rect', { class: `box ${this.kinds[one.kind][1]}`, ...place });
    const title = svg('title', {});
    title.textContent = this.name(one);
    rect.append(title);
    return [svg('rect', { class: 'halo', ...place }), rect];
  }
}

// An image with groups for its boxes and labels; grey if there is no image.
function drawing(image) {
  const { width, height } = image;
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' });
  const absent = () => {
    picture.dataset.absent = 'true';
    return svg('rect', { class: 'absent', width, height });
  };
  if (image.image === null) {
    picture.append(absent());
  } else {
    const photo = svg('image', { href: `images/${image.image}`, width, height, preserveAspectRatio: 'none' });
    photo.addEventListener('error', () => {
      photo.replaceWith(absent());
      const caption = picture.nextElementSibling;
      if (caption) caption.textContent += ', image file not found';
    });
    picture.append(photo);
  }
  picture.append(svg('g', { class: 'boxes' }), svg('g', { class: 'labels' }));
  return picture;
}

// ---- one image, large --------------------------------------------------------

const large = {
  dialog: document.getElementById('large'),

  open(gallery, place) {
    Object.assign(this, { gallery, place: Number(place) });
    this.dialog.showModal();
    this.draw(); // labels depend on the size, which a hidden picture does not have
  },

  draw() {
    const { gallery } = this;
    const choice = gallery.choice;
    const picture = drawing(gallery.record(choice.model, this.place));
    const caption = document.createElement('p');
    const view = this.dialog.querySelector('.view');
    view.replaceChildren(picture, caption);
    const boxes = gallery.fill(choice, this.place, picture, caption);
    const list = document.createElement('ul');
    list.className = 'list';
    list.tabIndex = 0;
    for (const one of boxes) {
      const item = document.createElement('li');
      item.textContent = gallery.name(one);
      list.append(item);
    }
    view.append(list);
    this.label = () => gallery.label(picture, boxes);
    this.label();
    const at = gallery.order.indexOf(this.place);
    this.dialog.querySelector('[name=previous]').disabled = at <= 0;
    this.dialog.querySelector('[name=next]').disabled = at >= gallery.order.length - 1;
  },

  async move(step) {
    const { gallery } = this;
    const place = gallery.order[gallery.order.indexOf(this.place) + step];
    if (place === undefined) return;
    const size = Number(gallery.root.dataset.page);
    await load(`${gallery.choice.model}-${Math.floor(place / size)}`);
    this.place = place;
    this.draw();
  },
};

large.dialog.querySelector('[name=previous]').addEventListener('click', () => large.move(-1));
large.dialog.querySelector('[name=next]').addEventListener('click', () => large.move(1));
large.dialog.querySelector('[name=close]').addEventListener('click', () => large.dialog.close());
large.dialog.addEventListener('keydown', (event) => {
  if (event.key === 'ArrowLeft') large.move(-1);
  if (event.key === 'ArrowRight') large.move(1);
});

window.addEventListener('resize', () => {
  if (large.dialog.open) large.label();
});

// ---- start -------------------------------------------------------------------

// A gallery loads when it is almost visible, so that the page does not wait for it.
const watch = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    watch.unobserve(target);
    new Gallery(target).show();
  }
}, { rootMargin: '600px' });
for (const root of document.querySelectorAll('.gallery')) watch.observe(root);

'use strict';
const stories = JSON.parse(document.getElementById('stories').textContent);
const svgNS = 'http://www.w3.org/2000/svg';

function shape(parent, name, attributes, text) {
  const e = document.createElementNS(svgNS, name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  parent.append(e);
  return e;
}

function node(parent, name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  parent.append(e);
  return e;
}

const seconds = (ms) => (ms / 1000).toFixed(ms < 10000 ? 3 : 1) + ' s';

// What a lane says at a moment: the last span that has begun and not ended.
function at(lane, ms) {
  let found;
  for (const s of lane.spans) if (s.at <= ms) found = s;
  return found && (!found.to || ms < found.to || found === lane.spans.at(-1)) ? found : undefined;
}

// Steps of 1, 2 or 5 that leave room for their labels.
function tickStep(length, width) {
  const least = length / Math.max(2, width / 90);
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least);
}

function draw(box, story) {
  const width = box.clientWidth;
  if (!width || box.drawn === width) return;
  box.drawn = width;
  const narrow = width < 620, left = narrow ? 0 : 170, high = narrow ? 34 : 22, top = 18;
  const height = top + story.lanes.length * high + 2;
  const x = (ms) => left + (width - left - 1) * Math.min(ms, story.length) / story.length;
  const cursorAt = box.querySelector('input')?.value;
  box.replaceChildren();

  const svg = shape(box, 'svg', {viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': 'timeline'});
  const tick = tickStep(story.length, width - left);
  for (let ms = 0; ms <= story.length; ms += tick) {
    shape(svg, 'line', {class: 'grid', x1: x(ms), x2: x(ms), y1: top - 4, y2: height});
    const end = x(ms) > width - 30;
    shape(svg, 'text', {class: 'tick', x: x(ms) + (end ? -2 : 2), y: 10, 'text-anchor': end ? 'end' : 'start'}, +(ms / 1000).toFixed(3) + ' s');
  }
  story.lanes.forEach((lane, i) => {
    const y = top + i * high, bar = y + (narrow ? 14 : 1), tall = 18;
    shape(svg, 'text', {class: 'label', x: 0, y: y + (narrow ? 11 : 14)}, narrow ? lane.name : cut(lane.name, left - 8));
    lane.spans.forEach((s, n) => {
      const next = lane.spans[n + 1], to = s.to || (next ? next.at : story.length);
      const wide = Math.max(2.5, x(to) - x(s.at));
      shape(svg, 'rect', {class: s.look || lane.kind, x: x(s.at), y: bar, width: wide, height: tall, rx: 2});
      const text = cut(s.text, wide - 6);
      if (text) shape(svg, 'text', {x: x(s.at) + 4, y: bar + 13}, text);
    });
  });
  if (story.wrong) shape(svg, 'line', {class: 'fault', x1: x(story.wrong.at), x2: x(story.wrong.at), y1: top - 4, y2: height});
  const cursor = shape(svg, 'line', {class: 'cursor', y1: top - 4, y2: height});

  const slider = node(box, 'input');
  Object.assign(slider, {type: 'range', min: 0, max: story.length, value: cursorAt ?? story.wrong?.at ?? story.length});
  slider.setAttribute('aria-label', 'moment');
  const now = node(box, 'dl', undefined, 'now');
  const show = () => {
    const ms = +slider.value;
    cursor.setAttribute('x1', x(ms));
    cursor.setAttribute('x2', x(ms));
    now.replaceChildren();
    node(now, 'dt', 'at');
    node(now, 'dd', seconds(ms));
    for (const lane of story.lanes) {
      const s = at(lane, ms);
      node(now, 'dt', lane.name);
      const dd = node(now, 'dd', s ? s.text : '–');
      if (s?.more) node(dd, 'small', ' ' + s.more);
    }
  };
  const move = (e) => {
    const r = svg.getBoundingClientRect();
    const share = ((e.clientX - r.left) * width / r.width - left) / (width - left - 1);
    slider.value = Math.round(Math.min(1, Math.max(0, share)) * story.length);
    show();
  };
  svg.addEventListener('pointermove', move);
  svg.addEventListener('pointerdown', move);
  slider.addEventListener('input', show);
  show();
}

// A text that fits, by the width of a letter that is about average.
function cut(text, room) {
  const fits = Math.floor(room / 5.9);
  return text.length <= fits ? text : fits < 4 ? '' : text.slice(0, fits - 1) + '…';
}

// Timelines are drawn once they are to be seen.
const drawAll = () => {
  for (const box of document.querySelectorAll('.timeline')) {
    if (box.checkVisibility()) draw(box, stories[box.dataset.story]);
  }
};
document.addEventListener('toggle', drawAll, true);
addEventListener('resize', drawAll);
drawAll();

// Who follows a link to a closed scenario sees it open.
const reveal = () => {
  const e = location.hash && document.getElementById(location.hash.slice(1));
  if (e?.tagName === 'DETAILS') e.open = true;
};
addEventListener('hashchange', reveal);
reveal();

const filter = document.getElementById('filter'), shown = document.getElementById('shown');
const select = () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let n = 0;
  for (const area of document.querySelectorAll('.area')) {
    let some = false;
    for (const spec of area.querySelectorAll('.spec')) {
      const has = spec.dataset.words.toLowerCase() + ' ';
      const ok = words.every((w) => has.includes(w.startsWith('row:') ? w + ' ' : w));
      spec.hidden = !ok;
      some = some || ok;
      n += ok;
    }
    area.hidden = !some;
  }
  shown.textContent = words.length ? n + ' shown' : '';
};
filter.addEventListener('input', select);

'use strict';

// The text of a document, shaded by how many layers and heads still hold each token. Shade and
// underline grow together, so the view can be read without colours.

const kChunkTokens = 240;   // a chunk ends at the first line end after so many tokens
const kLongestChunk = 900;  // a text without line ends is cut here
const kPassageTokens = 32;
const kPassages = 12;
// Upper ends of the levels 0 to 5 as fractions of all layers x heads.
const kLevelEnds = [0, 0.1, 0.25, 0.5, 0.8, 1];
// A smaller difference between two methods does not count as one.
const kDifferenceEnds = [0.05, 0.2, 0.5, 1];

function levelOf(fraction, ends) {
  let level = 0;
  while (level + 1 < ends.length && fraction > ends[level] + 1e-9) ++level;
  return level;
}

class KeptView {
  constructor() {
    this.first = null;
    this.second = null;
    this.mode = 'first';
    this.active = -1;  // the token that is described
    this.cursor = -1;  // where keys and jumps go on from; the pointer does not move it
    this.chunks = [];
    this.text = el('div', {
      class: 'kept-text',
      tabindex: '0',
      role: 'group',
      'aria-roledescription': 'shaded text',
      'aria-label': 'Text of the document',
      'aria-describedby': 'kept-help'
    });
    this.map = el('canvas', {class: 'kept-map', 'aria-hidden': 'true'});
    this.readout = el('p', {class: 'kept-readout', 'aria-hidden': 'true'});
    this.legend = el('ul', {class: 'legend', 'aria-label': 'Legend'});
    this.summary = el('p', {class: 'kept-summary'});
    this.previous = button(
        'Previous passage that is kept most', 'previous', () => this.jump(-1), {quiet: true});
    this.next = button('Next passage that is kept most', 'next', () => this.jump(1), {quiet: true});
    this.root = el(
        'div', {class: 'kept-view'}, this.summary, this.legend,
        el('div', {class: 'kept-jump'}, this.map, this.previous, this.next), this.text,
        this.readout,
        el('p', {class: 'away', id: 'kept-help'},
           'The left and right arrow keys go from token to token and say how many layers and heads hold it.'));
    this.observer = new IntersectionObserver((entries) => {
      for (const entry of entries)
        this.paint(this.chunks[Number(entry.target.dataset.chunk)], entry.isIntersecting);
    }, {root: this.text, rootMargin: '500px 0px'});
    // Scrolling moves the text under a pointer at rest, which must not count as pointing.
    this.text.addEventListener('pointermove', (event) => {
      if (event.movementX || event.movementY) this.point(event);
    });
    this.text.addEventListener('click', (event) => {
      this.point(event);
      this.cursor = this.active;
    });
    this.text.addEventListener('keydown', (event) => this.onkey(event));
    this.text.addEventListener('scroll', () => this.drawMapSoon(), {passive: true});
    this.map.addEventListener('click', (event) => {
      const box = this.map.getBoundingClientRect();
      this.reveal(
          Math.floor((event.clientX - box.left) / box.width * this.first.tokens.length), 'start');
    });
    new ResizeObserver(() => this.drawMapSoon()).observe(this.map);
    window.matchMedia('(prefers-color-scheme: dark)')
        .addEventListener('change', () => this.drawMapSoon());
  }

  // `data` is an answer of the server; names are those of the methods.
  show(data, name) {
    this.first = this.checked(data, name);
    this.second = null;
    this.mode = 'first';
    this.active = -1;
    this.cursor = -1;
    this.build();
    this.refresh();
  }

  compareWith(data, name) {
    this.second = this.checked(data, name);
    if (this.second.tokens.length !== this.first.tokens.length) {
      this.second = null;
      throw new ApiError(
          'failed', 'The two readings have different tokens and cannot be compared.');
    }
    this.setMode('difference');
  }

  endComparison() {
    this.second = null;
    if (this.first) this.setMode('first');
  }

  setMode(mode) {
    this.mode = mode;
    this.refresh();
  }

  checked(data, name) {
    const tokens = Array.isArray(data.tokens) ? data.tokens.map(String) : [];
    const pairs = Math.max(1, Number(data.layers) * Number(data.heads) || 1);
    const kept =
        Array.from(tokens, (_, i) => Math.min(pairs, Math.max(0, Number(data.kept?.[i]) || 0)));
    return {tokens, kept, pairs, layers: data.layers, heads: data.heads, name};
  }

  build() {
    this.observer.disconnect();
    this.text.replaceChildren();
    this.text.scrollTop = 0;
    this.chunks = [];
    const {tokens} = this.first;
    for (let begin = 0; begin < tokens.length;) {
      let end = begin;
      while (end < tokens.length) {
        const token = tokens[end++];
        const size = end - begin;
        if (size >= kLongestChunk || (size >= kChunkTokens && token.endsWith('\n'))) break;
      }
      const node =
          el('div', {class: 'chunk', dir: 'auto', 'data-chunk': String(this.chunks.length)});
      this.chunks.push({node, begin, end, painted: null});
      begin = end;
    }
    for (const chunk of this.chunks) {
      this.paint(chunk, false);
      this.observer.observe(chunk.node);
    }
    this.text.append(...this.chunks.map((chunk) => chunk.node));
  }

  // Far from the visible part a chunk is one text node: cheap, found by the browser's search, and
  // as high as it will be with its tokens.
  paint(chunk, near) {
    if (!chunk) return;
    const wanted = near ? this.mode : 'plain';
    chunk.near = near;
    if (chunk.painted === wanted) return;
    chunk.painted = wanted;
    const {tokens} = this.first;
    if (!near) {
      chunk.node.textContent = tokens.slice(chunk.begin, chunk.end).join('');
      return;
    }
    const spans = [];
    for (let i = chunk.begin; i < chunk.end; ++i) {
      spans.push(el(
          'span',
          {class: this.classOf(i) + (i === this.active ? ' active' : ''), 'data-token': String(i)},
          tokens[i]));
    }
    chunk.node.replaceChildren(...spans);
  }

  side() {
    return this.mode === 'second' ? this.second : this.first;
  }

  difference(i) {
    return this.first.kept[i] / this.first.pairs - this.second.kept[i] / this.second.pairs;
  }

  classOf(i) {
    if (this.mode === 'difference') {
      const difference = this.difference(i);
      return `${difference > 0 ? 'more' : 'less'}${levelOf(Math.abs(difference), kDifferenceEnds)}`;
    }
    const side = this.side();
    return `kept${levelOf(side.kept[i] / side.pairs, kLevelEnds)}`;
  }

  describe(i) {
    const token = this.first.tokens[i];
    const visible = token.trim() ? `\u201c${token.trim()}\u201d` :
        token.includes('\n') ? 'line end' :
                               'space';
    const part = (side) => `${side.kept[i]} of ${side.pairs}`;
    const position = `token ${count(i + 1)}`;
    if (this.second)
      return `${visible}, ${position}: ${this.first.name} ${part(this.first)}, ${
          this.second.name} ${part(this.second)} layers \u00d7 heads`;
    const side = this.first;
    return `${visible}, ${position}: ${part(side)} layers \u00d7 heads (${
        percentText(side.kept[i] / side.pairs)})`;
  }

  refresh() {
    for (const chunk of this.chunks)
      if (chunk.near) this.paint(chunk, true);
    const levels = this.mode === 'difference' ?
        [
          ['less3', `only ${this.second.name}`], ['less2', 'more'], ['less1', 'a little'],
          ['more0', 'the same'], ['more1', 'a little'], ['more2', 'more'],
          ['more3', `only ${this.first.name}`]
        ] :
        [
          ['kept0', 'held by none'], ['kept1', 'up to 10%'], ['kept2', '25%'], ['kept3', '50%'],
          ['kept4', '80%'], ['kept5', '100%']
        ];
    this.legend.replaceChildren(...levels.map(([name, words]) => el('li', {class: name}, words)));
    this.summary.textContent = this.summaryText();
    this.passages = this.findPassages();
    this.say(this.active, false);
    this.drawMapSoon();
  }

  summaryText() {
    if (this.mode === 'difference') {
      let first = 0;
      let second = 0;
      for (let i = 0; i < this.first.tokens.length; ++i) {
        const difference = this.difference(i);
        if (difference > kDifferenceEnds[0])
          ++first;
        else if (difference < -kDifferenceEnds[0])
          ++second;
      }
      return `${this.first.name} holds ${count(first, 'token')} better, ${this.second.name} ${
          count(second, 'token')}. The others are held alike.`;
    }
    const side = this.side();
    const total = side.kept.length;
    if (!total) return 'Nothing is held.';
    const sum = side.kept.reduce((a, b) => a + b, 0);
    const lost = side.kept.filter((kept) => kept === 0).length;
    return `Each of ${count(total, 'token')} can be held by ${side.layers} layers \u00d7 ${
               side.heads} heads. ${percentText(sum / (total * side.pairs))} of that is kept. ` +
        (lost ? `${percentText(lost / total)} of the tokens are held nowhere.` :
                'Every token is held somewhere.');
  }

  // Begins of the passages that are kept most, in the order of the text.
  findPassages() {
    const n = this.first.tokens.length;
    const weight = (i) =>
        (this.mode === 'difference' ? Math.abs(this.difference(i)) : this.side().kept[i]);
    const sums = [];
    let sum = 0;
    for (let i = 0; i < n; ++i) {
      sum += weight(i);
      if (i >= kPassageTokens) sum -= weight(i - kPassageTokens);
      if (i + 1 >= Math.min(n, kPassageTokens)) sums.push(sum);
    }
    const order = sums.map((_, i) => i).sort((a, b) => sums[b] - sums[a]);
    const chosen = [];
    for (const at of order) {
      if (chosen.length >= kPassages || sums[at] <= 0) break;
      if (chosen.every((other) => Math.abs(other - at) >= 2 * kPassageTokens)) chosen.push(at);
    }
    return chosen.sort((a, b) => a - b);
  }

  jump(direction) {
    if (!this.passages.length) return;
    const here = this.cursor < 0 ? (direction > 0 ? -1 : Infinity) : this.cursor;
    const target = direction > 0 ?
        this.passages.find((at) => at > here) ?? this.passages[0] :
        this.passages.findLast((at) => at < here) ?? this.passages.at(-1);
    this.reveal(target, 'center');
    const words = this.first.tokens.slice(target, target + kPassageTokens).join('').trim();
    announce(`Passage ${this.passages.indexOf(target) + 1} of ${this.passages.length}: ${words}`);
  }

  point(event) {
    const index = event.target.dataset?.token;
    if (index !== undefined) this.activate(Number(index));
  }

  onkey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const last = this.first.tokens.length - 1;
    const targets = {
      ArrowRight: Math.min(last, this.cursor + 1),
      ArrowLeft: Math.max(0, this.cursor - 1),
      Home: 0,
      End: last
    };
    const target = targets[event.key];
    if (target === undefined || last < 0) return;
    event.preventDefault();
    this.reveal(target, 'nearest');
    this.say(target, true);
  }

  chunkOf(i) {
    return this.chunks.find((chunk) => i < chunk.end);
  }

  spanOf(i) {
    const chunk = this.chunkOf(i);
    return chunk && chunk.near ? chunk.node.childNodes[i - chunk.begin] : null;
  }

  activate(i) {
    if (this.active >= 0) this.spanOf(this.active)?.classList.remove('active');
    this.active = i;
    this.spanOf(i)?.classList.add('active');
    this.say(i, false);
  }

  reveal(i, block) {
    const chunk = this.chunkOf(i);
    if (!chunk) return;
    this.cursor = i;
    this.paint(chunk, true);
    this.activate(i);
    // Chunks get their real heights when they come into view, so the first jump may miss.
    let frames = 6;
    const settle = () => {
      if (this.cursor !== i) return;
      this.scrollTo(i, block);
      if (--frames) window.requestAnimationFrame(settle);
    };
    settle();
  }

  // Scrolls the text only; `scrollIntoView` moves what is around it, too.
  scrollTo(i, block) {
    const span = this.spanOf(i);
    if (!span) return;
    const box = this.text.getBoundingClientRect();
    const at = span.getBoundingClientRect();
    const margin = 16;
    if (block === 'center')
      this.text.scrollTop += (at.top + at.bottom - box.top - box.bottom) / 2;
    else if (block === 'start' || at.top < box.top + margin)
      this.text.scrollTop += at.top - box.top - margin;
    else if (at.bottom > box.bottom - margin)
      this.text.scrollTop += at.bottom - box.bottom + margin;
  }

  say(i, aloud) {
    const text = i >= 0 && i < (this.first?.tokens.length ?? 0) ?
        this.describe(i) :
        'Point at a word to see how many layers and heads hold it.';
    this.readout.textContent = text;
    if (aloud) announce(text);
  }

  drawMapSoon() {
    if (this.drawing) return;
    this.drawing = true;
    window.requestAnimationFrame(() => {
      this.drawing = false;
      if (this.first) this.drawMap();
    });
  }

  // The whole text from left to right: the higher a column, the more is kept there.
  drawMap() {
    const width = this.map.clientWidth;
    const height = this.map.clientHeight;
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    this.map.width = Math.round(width * ratio);
    this.map.height = Math.round(height * ratio);
    const pen = this.map.getContext('2d');
    pen.scale(ratio, ratio);
    const style = window.getComputedStyle(this.map);
    const n = this.first.tokens.length;
    const columns = Math.max(1, Math.min(n, Math.floor(width / 3)));
    const means = Array.from({length: columns}, (_, column) => {
      const begin = Math.floor(column * n / columns);
      const end = Math.max(begin + 1, Math.floor((column + 1) * n / columns));
      let sum = 0;
      for (let i = begin; i < end && i < n; ++i) {
        sum += this.mode === 'difference' ? this.difference(i) :
                                            this.side().kept[i] / this.side().pairs;
      }
      return sum / (end - begin);
    });
    const highest = Math.max(1e-9, ...means.map(Math.abs));
    const [accent, other] =
        [style.getPropertyValue('--accent'), style.getPropertyValue('--second')];
    const visible = this.text.scrollHeight || 1;
    pen.fillStyle = style.getPropertyValue('--map-window');
    pen.fillRect(
        this.text.scrollTop / visible * width, 0,
        Math.max(4, this.text.clientHeight / visible * width), height);
    for (const [column, mean] of means.entries()) {
      const share = Math.abs(mean) / highest;
      const middle = height / 2;
      pen.fillStyle = mean < 0 ? other : accent;
      const x = column * width / columns;
      const w = Math.max(1, width / columns - 1);
      if (this.mode !== 'difference')
        pen.fillRect(x, height - Math.max(1, share * height), w, Math.max(1, share * height));
      else
        pen.fillRect(
            x, mean < 0 ? middle : middle - share * middle, w, Math.max(0.5, share * middle));
    }
  }
}

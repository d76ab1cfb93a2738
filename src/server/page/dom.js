'use strict';

// Elements, icons and texts that all parts of the page share.

// Makes an element. Strings become text nodes, so no text can turn into markup.
function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on'))
      node.addEventListener(key.slice(2), value);
    else if (key === 'class')
      node.className = value;
    else if (key === 'value')
      node.value = value;
    else
      node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.flat().filter(
      (child) => child !== null && child !== undefined && child !== false));
  return node;
}

const kIcons = {
  plus: 'M12 5v14M5 12h14',
  menu: 'M4 7h16M4 12h16M4 17h10',
  close: 'M6 6l12 12M18 6L6 18',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  attach:
      'M20 11.5l-8 8a5 5 0 0 1-7-7l8.5-8.5a3.3 3.3 0 0 1 4.7 4.7L9.8 17a1.7 1.7 0 0 1-2.4-2.4L15 7',
  copy: 'M9 9h10v11H9zM15 9V4H5v11h4',
  done: 'M5 13l4.5 4.5L19 7',
  retry: 'M19 12a7 7 0 1 1-2.1-5M19 3v5h-5',
  edit: 'M4 20l1-5L16 4l4 4L9 19zM14 6l4 4',
  remove: 'M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13M10 11v5M14 11v5',
  kept: 'M4 6h16M4 10.7h10M4 15.3h16M4 20h7',
  file: 'M6 3h8l5 5v13H6zM14 3v5h5',
  upload: 'M12 16V4M7 9l5-5 5 5M4 16v4h16v-4',
  memory:
      'M4 8h9M19 8h1M4 16h2M12 16h8M16 5.5a2.5 2.5 0 1 0 0 5a2.5 2.5 0 1 0 0-5M9 13.500a2.500 2.500 0 1 0 0 5a2.500 2.500 0 1 0 0-5',
  previous: 'M6 15l6-6 6 6',
  next: 'M6 9l6 6 6-6',
};

function icon(name) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  const path = document.createElementNS(space, 'path');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', kIcons[name]);
  svg.append(path);
  return svg;
}

// A button with an icon and words; `quiet` leaves the words to screen readers and to the tooltip.
function button(words, iconName, onclick, {kind = 'plain', quiet = false, ...more} = {}) {
  return el(
      'button', {
        type: 'button',
        class: `button ${kind}${quiet ? ' quiet' : ''}`,
        onclick,
        'aria-label': quiet ? words : null,
        title: quiet ? words : null,
        ...more
      },
      iconName ? icon(iconName) : null, quiet ? null : el('span', {}, words));
}

const kWholeNumbers = new Intl.NumberFormat('en', {maximumFractionDigits: 0});

function count(number, noun) {
  const text = kWholeNumbers.format(number);
  return noun ? `${text} ${noun}${number === 1 ? '' : 's'}` : text;
}

function bytesText(bytes) {
  if (bytes < 1000) return count(Math.round(bytes), 'byte');
  const units = ['kB', 'MB', 'GB', 'TB'];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 999.5 && unit + 1 < units.length) {
    value /= 1000;
    ++unit;
  }
  return `${value < 99.95 ? value.toFixed(1).replace(/\.0$/, '') : kWholeNumbers.format(value)} ${
      units[unit]}`;
}

function percentText(fraction) {
  const percent = 100 * fraction;
  if (percent > 0 && percent < 1) return 'less than 1%';
  if (percent < 100 && percent > 99) return 'over 99%';
  return `${Math.round(percent)}%`;
}

function durationText(seconds) {
  if (seconds < 1.5) return '1 second';
  if (seconds < 90) return `${Math.round(seconds)} seconds`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} minutes`;
  return `${(seconds / 3600).toFixed(1)} hours`;
}

// Says something to screen readers. One line replaces the one before: nothing is read twice.
function announce(text) {
  const region = document.getElementById('announcer');
  region.textContent = '';
  window.setTimeout(() => {
    region.textContent = text;
  }, 50);
}

// The clipboard interface needs HTTPS or this machine's own address; the old command works
// anywhere.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = document.activeElement;
    const field = el('textarea', {class: 'away', 'aria-hidden': 'true', value: text});
    document.body.append(field);
    field.select();
    const copied = document.execCommand('copy');
    field.remove();
    focused?.focus();
    return copied;
  }
}

function copyButton(getText, words = 'Copy', options = {}) {
  const node = button(words, 'copy', async () => {
    const copied = await copyText(getText());
    node.replaceChildren(
        icon(copied ? 'done' : 'close'),
        ...(options.quiet ? [] : [el('span', {}, copied ? 'Copied' : 'Not copied')]));
    announce(copied ? 'Copied.' : 'The browser does not allow copying.');
    window.setTimeout(
        () => node.replaceChildren(icon('copy'), ...(options.quiet ? [] : [el('span', {}, words)])),
        1600);
  }, options);
  return node;
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      window.clearTimeout(timer);
      reject(new DOMException('stopped', 'AbortError'));
    };
    const timer = window.setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, milliseconds);
    if (signal?.aborted)
      stop();
    else
      signal?.addEventListener('abort', stop, {once: true});
  });
}

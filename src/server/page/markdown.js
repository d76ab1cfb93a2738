'use strict';

// Markdown of answers as DOM nodes. Text reaches the page through text nodes only; HTML in an
// answer is shown as it is written. Every step is linear in the length of the text, whatever it
// contains.

const kDeepest = 8;  // nested quotes, lists and emphasis
const kLongestLink = 2000;

function fenceOf(line) {
  const match = /^ {0,3}(`{3,}|~{3,})([^`]*)$/.exec(line);
  return match && {mark: match[1], info: match[2].trim()};
}

function itemOf(line) {
  const match = /^( *)([-*+]|\d{1,9}[.)])( +|$)/.exec(line);
  return match && {
    indent: match[1].length,
    ordered: /\d/.test(match[2]),
    number: parseInt(match[2], 10),
    width: match[1].length + match[2].length + Math.min(4, Math.max(1, match[3].length))
  };
}

function isRule(line) {
  const marks = line.replace(/\s/g, '');
  return marks.length >= 3 && /^(-+|\*+|_+)$/.test(marks) && !/^ {4}/.test(line);
}

function headingOf(line) {
  const match = /^ {0,3}(#{1,6})(?: (.*)|)$/.exec(line);
  return match && {level: match[1].length, text: (match[2] ?? '').trim().replace(/ #+$/, '')};
}

function cellsOf(line) {
  const cells = [''];
  const trimmed = line.trim();
  for (let i = trimmed.startsWith('|') ? 1 : 0; i < trimmed.length; ++i) {
    if (trimmed[i] === '\\' && trimmed[i + 1] === '|')
      cells[cells.length - 1] += trimmed[++i];
    else if (trimmed[i] !== '|')
      cells[cells.length - 1] += trimmed[i];
    else if (i + 1 < trimmed.length)
      cells.push('');
  }
  return cells.map((cell) => cell.trim());
}

function isTableRuler(line) {
  return line !== undefined && line.includes('-') && line.includes('|') &&
      cellsOf(line).every((cell) => /^:?-+:?$/.test(cell));
}

function interruptsParagraph(lines, i) {
  const line = lines[i];
  if (fenceOf(line) || headingOf(line) || isRule(line) || /^ {0,3}>/.test(line)) return true;
  const item = itemOf(line);
  if (item && item.indent < 4 && (!item.ordered || item.number === 1)) return true;
  return line.includes('|') && isTableRuler(lines[i + 1]);
}

// Cuts a text into blocks: {kind, lines, ...}. A block depends on its own lines only, so a growing
// text changes its last block and leaves the others alone.
function markdownBlocks(lines) {
  const blocks = [];
  let i = 0;
  while (i < lines.length) {
    const line = lines[i];
    if (!line.trim()) {
      ++i;
      continue;
    }
    const begin = i;
    const fence = fenceOf(line);
    const heading = headingOf(line);
    const item = itemOf(line);
    if (fence) {
      const isEnd = (text) => {
        const marks = text.trim();
        return marks.length >= fence.mark.length && marks === fence.mark[0].repeat(marks.length);
      };
      ++i;
      while (i < lines.length && !isEnd(lines[i])) ++i;
      blocks.push({kind: 'code', info: fence.info, lines: lines.slice(begin + 1, i)});
      ++i;
    } else if (heading) {
      blocks.push({kind: 'heading', level: heading.level, lines: [heading.text]});
      ++i;
    } else if (isRule(line)) {
      blocks.push({kind: 'rule', lines: []});
      ++i;
    } else if (/^ {0,3}>/.test(line)) {
      while (i < lines.length && /^ {0,3}>/.test(lines[i])) ++i;
      blocks.push({
        kind: 'quote',
        lines: lines.slice(begin, i).map((text) => text.replace(/^ {0,3}> ?/, ''))
      });
    } else if (item && item.indent < 4) {
      ++i;
      while (i < lines.length) {
        const next = lines[i].trim() ? i : i + 1;  // one blank line may separate items
        if (next >= lines.length || !lines[next].trim()) break;
        const other = itemOf(lines[next]);
        const indented = /^ {2,}/.test(lines[next]);
        const goesOn = indented ||
            (other && other.ordered === item.ordered && !isRule(lines[next])) ||
            (next === i && !interruptsParagraph(lines, next));
        if (!goesOn) break;
        i = next + 1;
      }
      blocks.push(
          {kind: 'list', ordered: item.ordered, start: item.number, lines: lines.slice(begin, i)});
    } else if (line.includes('|') && isTableRuler(lines[i + 1])) {
      i += 2;
      while (i < lines.length && lines[i].includes('|')) ++i;
      blocks.push({kind: 'table', lines: lines.slice(begin, i)});
    } else {
      ++i;
      while (i < lines.length && lines[i].trim() && !interruptsParagraph(lines, i)) ++i;
      blocks.push({kind: 'paragraph', lines: lines.slice(begin, i)});
    }
  }
  return blocks;
}

function safeLink(address) {
  try {
    const url = new URL(address);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function linkNode(address, fill) {
  const link =
      el('a', {href: address, target: '_blank', rel: 'noopener noreferrer', title: address});
  fill(link);
  return link;
}

// The closing mark of emphasis that opens before `from`, or -1.
function closingMark(text, mark, from) {
  for (let at = text.indexOf(mark, from); at >= 0; at = text.indexOf(mark, at + 1)) {
    if (/\s/.test(text[at - 1] ?? ' ') || text[at - 1] === '\\') continue;
    if (mark.length === 1 && (text[at + 1] === mark || text[at - 1] === mark)) continue;
    if (mark[0] === '_' && /[\p{L}\p{N}]/u.test(text[at + mark.length] ?? ' ')) continue;
    return at;
  }
  return -1;
}

// `[words](address "title")` at `at`, or null.
function linkAt(text, at) {
  const limit = Math.min(text.length, at + kLongestLink);
  let depth = 0;
  let i = at;
  for (; i < limit; ++i) {
    if (text[i] === '\\')
      ++i;
    else if (text[i] === '[')
      ++depth;
    else if (text[i] === ']' && --depth === 0)
      break;
  }
  if (i >= limit || text[i + 1] !== '(') return null;
  const begin = i + 2;
  let parentheses = 1;
  let j = begin;
  for (; j < limit; ++j) {
    if (text[j] === '\n') return null;
    if (text[j] === '(')
      ++parentheses;
    else if (text[j] === ')' && --parentheses === 0)
      break;
  }
  if (j >= limit) return null;
  const address = text.slice(begin, j).trim().split(/\s/)[0].replace(/^<|>$/g, '');
  return {words: text.slice(at + 1, i), address, end: j + 1};
}

function appendInline(parent, text, depth = 0) {
  const special = /[\\`*_~[!<\n]|https?:\/\//g;
  const without = new Set();  // marks that have no partner from here on
  let linkTries = 200;        // brackets that never close must not cost a scan each
  let plain = 0;
  const flush = (end) => {
    if (end > plain) parent.append(text.slice(plain, end));
  };
  let at = 0;
  for (;;) {
    special.lastIndex = at;
    const match = special.exec(text);
    if (!match) break;
    at = match.index;
    const here = text[at];
    let node = null;
    let end = at + 1;
    if (here === '\\' && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? '')) {
      node = text[at + 1];
      end = at + 2;
    } else if (here === '\n') {
      node = el('br');
    } else if (here === '`') {
      let length = 1;
      while (text[at + length] === '`') ++length;
      end = at + length;
      const mark = '`'.repeat(length);
      let close = without.has(mark) ? -1 : text.indexOf(mark, end);
      while (close >= 0 && (text[close + length] === '`' || text[close - 1] === '`')) {
        let next = close;
        while (text[next] === '`') ++next;
        close = text.indexOf(mark, next);
      }
      if (close < 0)
        without.add(mark);
      else {
        node = el('code', {}, text.slice(end, close).replace(/^ (.*) $/s, '$1'));
        end = close + length;
      }
    } else if ((here === '*' || here === '_' || here === '~') && depth < kDeepest) {
      const double = text[at + 1] === here;
      const mark = double ? here + here : here;
      const after = text[at + mark.length] ?? ' ';
      const inWord = here === '_' && /[\p{L}\p{N}]/u.test(text[at - 1] ?? ' ');
      end = at + mark.length;
      if (!/\s/.test(after) && !inWord && mark !== '~' && !without.has(mark)) {
        const close = closingMark(text, mark, end + 1);
        if (close < 0)
          without.add(mark);
        else {
          node = el(here === '~' ? 'del' : double ? 'strong' : 'em');
          appendInline(node, text.slice(end, close), depth + 1);
          end = close + mark.length;
        }
      }
    } else if (
        (here === '[' || (here === '!' && text[at + 1] === '[')) && depth < kDeepest &&
        linkTries > 0) {
      --linkTries;
      const link = linkAt(text, here === '!' ? at + 1 : at);
      const address = link && safeLink(link.address);
      // A picture would be a request to another server; its description becomes a link.
      if (address) {
        node = linkNode(
            address,
            (parentNode) => appendInline(parentNode, link.words || link.address, kDeepest));
        end = link.end;
      }
    } else if (here === '<') {
      const close =
          /^<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/.exec(text.slice(at, at + kLongestLink));
      const address = close && safeLink(close[1]);
      if (address) {
        node = linkNode(address, (parentNode) => parentNode.append(close[1]));
        end = at + close[0].length;
      }
    } else if (here === 'h') {
      const found =
          /^[^\s<>"'`*]+/.exec(text.slice(at, at + kLongestLink))[0].replace(/[.,;:!?)\]]+$/, '');
      const address = safeLink(found);
      end = at + Math.max(match[0].length, found.length);
      if (address && depth < kDeepest)
        node = linkNode(address, (parentNode) => parentNode.append(found));
    }
    if (node !== null) {
      flush(at);
      parent.append(node);
      plain = end;
    }
    at = end;
  }
  flush(text.length);
}

function codeBlock(info, text) {
  const language = info.split(/\s/)[0].slice(0, 40);
  return el(
      'div', {class: 'code'},
      el('div', {class: 'code-head'}, el('span', {}, language || 'text'),
         copyButton(() => text, 'Copy', {kind: 'small', 'aria-label': 'Copy the code'})),
      el('pre',
         {tabindex: '0', role: 'group', 'aria-label': language ? `Code, ${language}` : 'Code'},
         el('code', {}, text)));
}

function listNode(block, depth) {
  const node =
      el(block.ordered ? 'ol' : 'ul',
         {start: block.ordered && block.start !== 1 ? block.start : null});
  const first = itemOf(block.lines[0]);
  let lines = null;
  let width = 0;
  const finish = () => {
    if (!lines) return;
    const item = el('li');
    const task = /^\[([ xX])\] /.exec(lines[0]);
    if (task) {
      lines[0] = lines[0].slice(4);
      item.className = 'task';
      item.append(
          el('input', {
            type: 'checkbox',
            disabled: true,
            checked: task[1] !== ' ',
            'aria-label': task[1] === ' ' ? 'open' : 'done'
          }),
          ' ');
    }
    const parts = markdownBlocks(lines);
    for (const [index, part] of parts.entries()) {
      if (part.kind === 'paragraph' && (index === 0 || parts.length === 1))
        appendInline(item, part.lines.map((text) => text.trim()).join('\n'));
      else
        item.append(blockNode(part, depth + 1));
    }
    node.append(item);
  };
  for (const line of block.lines) {
    const item = itemOf(line);
    if (item && item.indent <= first.indent + 1) {
      finish();
      width = item.width;
      lines = [line.slice(width)];
    } else {
      let cut = 0;
      while (cut < width && line[cut] === ' ') ++cut;
      lines.push(line.slice(cut));
    }
  }
  finish();
  return node;
}

function tableNode(block) {
  const [head, ruler, ...rows] = block.lines.map(cellsOf);
  const alignment =
      ruler.map((cell) => (cell.endsWith(':') ? (cell.startsWith(':') ? 'middle' : 'end') : null));
  const row = (cells, kind) => el('tr', {}, head.map((_, column) => {
    const node = el(kind, {class: alignment[column] ?? null, scope: kind === 'th' ? 'col' : null});
    appendInline(node, cells[column] ?? '');
    return node;
  }));
  return el(
      'div', {class: 'table', tabindex: '0', role: 'group', 'aria-label': 'Table'},
      el('table', {}, el('thead', {}, row(head, 'th')),
         el('tbody', {}, rows.map((cells) => row(cells, 'td')))));
}

function blockNode(block, depth = 0) {
  const text = block.lines.join('\n');
  if (block.kind === 'code') return codeBlock(block.info, text);
  if (block.kind === 'rule') return el('hr');
  if (block.kind === 'table') return tableNode(block);
  if (block.kind === 'list' && depth < kDeepest) return listNode(block, depth);
  if (block.kind === 'quote' && depth < kDeepest) {
    return el(
        'blockquote', {}, markdownBlocks(block.lines).map((part) => blockNode(part, depth + 1)));
  }
  // Headings of an answer stand below those of the page.
  const node = el(block.kind === 'heading' ? `h${Math.min(6, block.level + 3)}` : 'p');
  if (block.kind === 'heading') node.className = `size${block.level}`;
  appendInline(node, block.lines.map((line) => line.trim()).join('\n'));
  return node;
}

// Shows a growing text: only blocks that changed are made again, so a selection or a scrolled code
// block above them stays.
class MarkdownView {
  constructor(root) {
    this.root = root;
    this.keys = [];
  }

  update(text) {
    const blocks = markdownBlocks(text.replace(/\r\n?/g, '\n').replace(/\t/g, '    ').split('\n'));
    const keys = blocks.map((block) => JSON.stringify(block));
    let same = 0;
    while (same < keys.length && keys[same] === this.keys[same]) ++same;
    while (this.root.childNodes.length > same) this.root.lastChild.remove();
    for (let i = same; i < blocks.length; ++i) this.root.append(blockNode(blocks[i]));
    this.keys = keys;
  }
}

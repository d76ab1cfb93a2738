'use strict';

// The choice of method and budget, with what it costs: estimated before a document is read, exact
// after.

// A page of a report has some 500 words, a word some 1.3 tokens.
const kTokensPerPage = 650;
const kBytesPerToken = 4.2;

// A document is read before there is a question, a question without a document is read with it: the
// server has a method for each.
const kServersChoice = '';

const kMethodNames = {
  [kServersChoice]: ['The server\u2019s choice', 'one method for documents, another for questions'],
  'restkv': ['ReST-KV', 'keeps what changes the answers least when it is missing'],
  'snapkv': ['SnapKV', 'keeps what the end of the text pays attention to'],
  'streaming-llm': ['Beginning and end', 'keeps the first and the last words'],
  'h2o': ['H2O', 'keeps what got most attention so far'],
  'observed-attention': ['Observed attention', 'keeps what got attention on average'],
  'tova': ['TOVA', 'keeps what the last word pays attention to'],
  'lacache': ['LaCache', 'every group of layers keeps other parts'],
  'expected-attention': ['Expected attention', 'keeps what questions to come will probably need'],
  'keydiff': ['KeyDiff', 'keeps what differs from the rest'],
  'kvzip': ['KVzip', 'keeps what the model needs to say the text again'],
  'kvzip-plus': ['KVzip+', 'keeps what the model needs most to say the text again'],
  'kvzap': ['KVzap', 'keeps what the model will probably need to say the text again'],
  'restkv-repeat':
      ['ReST-KV, repeating', 'keeps what changes the text least when it is said again'],
  'lagkv': ['LagKV', 'keeps what stands out from the words after it'],
  'cur': ['CurDKV', 'keeps a set that can rebuild the rest'],
  'knorm': ['K-norm', 'keeps keys with small norms'],
  'random': ['Random', 'keeps random words, for comparison'],
  'full': ['Everything', 'forgets nothing and needs the most memory'],
};

function methodName(method) {
  return kMethodNames[method]?.[0] ?? method;
}

function estimatedTokens(file) {
  const isPlain = !/\.pdf$/i.test(file.name ?? '') && file.type !== 'application/pdf';
  return isPlain ? Math.max(1, Math.round(file.size / kBytesPerToken)) : null;
}

// Tokens that a budget is of a text of `tokens`. The server's own may be a share of each document,
// '25%', or what each layer chooses, 'auto': nobody knows how much that is before it is read.
function budgetTokens(budget, tokens, limits) {
  if (Number.isFinite(budget)) return budget;
  const share = /^([\d.]+)%$/.exec(budget);
  if (!share) return null;
  return Math.min(Math.max(1, Math.floor(tokens * Number(share[1]) / 100)), limits.maxBudget);
}

// How a budget is said.
function budgetText(budget) {
  if (Number.isFinite(budget)) return `${count(budget)} tokens`;
  return budget.endsWith('%') ? `${budget} of the text` : 'what each layer needs';
}

// Budgets that the slider offers: steps of a third to a half, as far as the server allows, and the
// server's own.
function budgetSteps(limits, current, tokens) {
  const maximum = limits.maxBudget;
  const steps = new Set();
  for (let power = 64; power <= maximum; power *= 2) {
    steps.add(power);
    if (power * 1.5 <= maximum) steps.add(power * 1.5);
  }
  steps.add(maximum);
  if (current && current <= maximum) steps.add(current);
  steps.add(limits.budget);
  const size = (budget) => budgetTokens(budget, tokens, limits) ?? 0;
  return [...steps].sort((a, b) => size(a) - size(b));
}

// What a choice keeps of `tokens`: {kept, bytes, fullBytes, fraction}; null if nobody knows.
function costOf(choice, tokens, limits) {
  const budget = choice.method === 'full' ? tokens : budgetTokens(choice.budget, tokens, limits);
  if (budget === null) return null;
  const kept = Math.min(budget, tokens);
  const {bytesPerToken} = limits;
  return {
    kept,
    bytes: kept * bytesPerToken,
    fullBytes: tokens * bytesPerToken,
    fraction: kept / tokens
  };
}

// A choice as requests have it.
function wishOf({method, budget}) {
  const wish = method === kServersChoice ? {} : {method};
  // Any other budget is the server's own: it need not be told.
  if (method !== 'full' && Number.isFinite(budget)) wish.budget = budget;
  return wish;
}

// Whether a document that was read is as this choice would have it. What a share has come to is a
// number then.
function sameChoice(choice, read, limits) {
  if (choice.method !== read.method) return false;
  return choice.method === 'full' || choice.budget === read.budget ||
      budgetTokens(choice.budget, read.tokens, limits) === read.budget;
}

// `document` is null before there is one. `onchange(choice)` is called while the slider moves,
// `onapply(choice)` when an existing document shall be read again.
function memoryControl({limits, choice, document: read, onchange, onapply}) {
  const current = {
    method: choice.method,
    budget: Number.isFinite(choice.budget) ? choice.budget : limits.budget
  };
  const sizeOfText = () => read?.tokens || read?.estimate || 20 * kTokensPerPage;
  // The server says of a document what its share has come to.
  if (current.budget === budgetTokens(limits.budget, sizeOfText(), limits))
    current.budget = limits.budget;
  const steps = budgetSteps(limits, current.budget, sizeOfText());
  const slider = el('input', {
    type: 'range',
    id: 'budget',
    min: '0',
    max: String(steps.length - 1),
    step: '1',
    'aria-describedby': 'budget-estimate'
  });
  const away = (step) => Math.abs(step - current.budget);
  const nearest = steps.includes(current.budget) ?
      steps.indexOf(current.budget) :
      steps.reduce((best, step, i) => (away(step) < away(steps[best]) ? i : best), 0);
  slider.value = String(nearest);
  current.budget = steps[nearest];
  const select = el('select', {id: 'method'}, [
    kServersChoice, ...limits.methods
  ].map((method) => el('option', {value: method}, methodName(method))));
  select.value = current.method;
  const shown = el('output', {class: 'budget-value', for: 'budget', 'aria-live': 'off'});
    const estimate = el('p', {class: 'estimate', id: 'budget-estimate'});
    const row = (words, kind) => {
      const bar = el('span', {class: `bar ${kind}`});
      const value = el('span', {class: 'value'});
      return {
        bar,
        value,
        nodes: [el('dt', {}, words), el('dd', {}, el('span', {class: 'track'}, bar), value)]
      };
    };
    const small = row('With this setting', 'small');
    const everything = row('Everything', 'everything');
    const explanation = el('p', {class: 'hint'});
    const apply = read ?
        button('Read again with this', 'retry', () => onapply({...current}), {kind: 'primary'}) :
        null;

    const update = () => {
      const full = current.method === 'full';
      const exact = Boolean(read?.tokens) && read.status === 'ready';
      const tokens = sizeOfText();
      const applied = exact && sameChoice(current, read, limits);
      const known = costOf(current, tokens, limits);
      const cost =
          known ?? {kept: 0, bytes: 0, fullBytes: tokens * limits.bytesPerToken, fraction: 0};
      if (applied && read.kv_bytes) {
        cost.bytes = read.kv_bytes;
        cost.fullBytes = read.full_kv_bytes;
      }
      if (applied && read.kept) {
        cost.kept = read.kept;
        cost.fraction = Math.min(1, read.kept / tokens);
      }
      slider.disabled = full;
      shown.textContent = full ? 'everything' : budgetText(current.budget);
      const about = applied ? '' : 'about ';
      const whole = cost.fraction >= 1;
      const isOpen = !known && !applied;
      small.value.textContent =
          isOpen ? 'known when it is read' : `${about}${bytesText(cost.bytes)}`;
      everything.value.textContent = `${about}${bytesText(cost.fullBytes)}`;
      small.bar.style.setProperty('inline-size', `${Math.max(1, 100 * cost.fraction)}%`);
      const part = isOpen ? 'As much as it takes' : whole ? 'All' : percentText(cost.fraction);
      const grows = full || !Number.isFinite(current.budget);
      estimate.textContent = read?.tokens || read?.estimate ?
          `${part} of the document is kept.` :
          `${part} of a report of 20 pages is kept. ${
              grows ? 'A longer text needs more memory.' : 'A longer text needs no more memory.'}`;
      slider.setAttribute(
          'aria-valuetext', `${shown.textContent}, ${small.value.textContent}, ${part} kept`);
      const method = kMethodNames[current.method];
      explanation.textContent =
          `${method ? `${method[0]}: ${method[1]}. ` : ''}A token is a word or a part of one.`;
      if (apply) apply.disabled = Boolean(applied) || read.status !== 'ready';
    };
    slider.addEventListener('input', () => {
      current.budget = steps[Number(slider.value)];
      update();
      onchange({...current});
    });
    select.addEventListener('change', () => {
      current.method = select.value;
      update();
      onchange({...current});
    });
    update();

    return el(
        'section', {class: 'memory', 'aria-label': 'Memory'},
        el('div', {class: 'memory-head'},
           el('label',
              {for: 'budget'
              },
              'How much to remember'),
           shown),
        slider,
        el('div', {class: 'ends', 'aria-hidden': 'true'}, el('span', {}, 'less memory'),
           el('span', {}, 'more detail')),
        el('dl', {class: 'cost'}, small.nodes, everything.nodes), estimate,
        el('div', {class: 'memory-foot'}, el('div', {class: 'method'}, el('label', {for: 'method'
                                             }, 'Method'), select), apply), explanation);
}

'use strict';

// The panel beside the answers that shows what is kept, and reads a document a second time to
// compare.

class KeptPanel {
  constructor(root, {api, files, limits, onclose}) {
    this.root = root;
    this.api = api;
    this.files = files;
    this.limits = limits;
    this.onclose = onclose;
    this.view = new KeptView();
    this.controller = null;
    this.loaded = '';
    this.source = null;
    this.title = el('h2', {id: 'kept-title', tabindex: '-1'}, 'What is kept');
    this.subject = el('p', {class: 'hint'});
    this.note = el('p', {class: 'notice', role: 'status', hidden: true});
    this.comparison = el('div', {class: 'comparison'});
    root.replaceChildren(
        el('header', {}, this.title, button('Close', 'close', () => this.close(), {quiet: true})),
        this.subject, this.comparison, this.note, this.view.root);
    root.setAttribute('aria-labelledby', 'kept-title');
    root.removeAttribute('aria-label');
    root.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !event.defaultPrevented) this.close();
    });
  }

  get isOpen() {
    return !this.root.hidden;
  }

  // `source`: {kind: 'document' | 'sequence', id, name, method, budget, kept}.
  async open(conversation, source, trigger) {
    this.trigger = trigger ?? this.trigger;
    this.root.hidden = false;
    this.onclose(true);
    if (trigger) this.title.focus();
    const key = JSON.stringify([source, conversation.id]);
    if (key === this.loaded) return;
    this.stop();
    this.source = source;
    this.conversation = conversation;
    this.loaded = key;
    this.subject.textContent = source.kind === 'document' ?
        `${source.name}, ${methodName(source.method)}` :
        'Document, questions and answers, as they were held at the end of this answer';
    this.view.root.hidden = true;
    this.comparison.replaceChildren();
    this.say('Being fetched.');
    const controller = this.controller = new AbortController();
    try {
      const data = await this.api.kept(source, controller.signal);
      if (this.controller !== controller) return;
      this.say('');
      this.view.root.hidden = false;
      this.view.show(data, methodName(source.method));
      this.buildComparison();
    } catch (error) {
      const problem = asApiError(error);
      if (problem.kind === 'stopped' || this.controller !== controller) return;
      this.loaded = '';
      this.say(problem.status === 404 ? 'The server no longer holds this.' : problem.message, true);
    }
  }

  close() {
    this.stop();
    this.loaded = '';
    this.root.hidden = true;
    this.onclose(false);
    if (this.trigger?.isConnected)
      this.trigger.focus();
    else
      document.getElementById('question').focus();
  }

  stop() {
    this.controller?.abort();
    this.controller = null;
  }

  say(text, isProblem = false) {
    this.note.hidden = !text;
    this.note.textContent = text;
    this.note.classList.toggle('problem', isProblem);
  }

  // A sequence has grown out of its document, so only a document can be read a second time.
  buildComparison() {
    const others = this.limits.methods.filter(
        (method) => method !== this.source.method && (method !== 'full'));
    if (this.source.kind !== 'document' || !others.length) return;
    const select =
        el('select', {'aria-label': 'Method to compare with'},
           others.map((method) => el('option', {value: method}, methodName(method))));
    select.value = others.includes('streaming-llm') && !others.includes('snapkv') ?
        'streaming-llm' :
        others.includes('snapkv') ? 'snapkv' :
                                    others[0];
    this.toggle = el('input', {type: 'checkbox', role: 'switch', id: 'compare'});
    this.progress = el('progress', {max: '1', 'aria-label': 'Second reading', hidden: true});
    this.modes =
        el('div', {class: 'modes', role: 'radiogroup', 'aria-label': 'Show', hidden: true});
    const change = () => (this.toggle.checked ? this.compare(select.value) : this.endComparison());
    this.toggle.addEventListener('change', change);
    select.addEventListener('change', () => {
      if (this.toggle.checked) change();
    });
    this.comparison.replaceChildren(el('div', {class: 'compare-row'}, this.toggle, el('label', {for: 'compare'
                                       }, 'Compare with'), select), this.progress, this.modes);
  }

  endComparison() {
    this.stop();
    this.say('');
    this.progress.hidden = true;
    this.modes.hidden = true;
    this.view.endComparison();
  }

  async compare(method) {
    this.endComparison();
    const controller = this.controller = new AbortController();
    const {signal} = controller;
    let second = null;
    try {
      const stored = await this.files.get(this.conversation.id);
      if (!stored)
        throw new ApiError(
            'refused', 'The browser no longer has the file. Choose it again to compare.');
      this.progress.hidden = false;
      this.progress.removeAttribute('value');
      this.say(`${methodName(method)} reads the document.`);
      // As much as the first reading has kept, if its budget is no number.
      const {source} = this;
      const ofFirst = Number.isFinite(source.budget) ? source.budget : source.kept;
      const choice =
          wishOf({method, budget: source.method === 'full' ? this.limits.budget : ofFirst});
      let state = await this.api.uploadDocument(stored.file, stored.name, choice, signal);
      const {id} = state;
      second = this.secondId = id === this.source.id ? null : id;
      while (isBeingRead(state)) {
        if (state.status === 'reading') this.progress.value = state.progress ?? 0;
        await sleep(kPollMilliseconds, signal);
        state = await this.api.document(id, signal);
      }
      if (state.status !== 'ready')
        throw new ApiError('failed', state.error?.message ?? 'The document could not be read.');
      this.view.compareWith(
          await this.api.kept({kind: 'document', id}, signal), methodName(method));
      this.say('');
      this.buildModes(method);
      announce('The comparison is ready.');
    } catch (error) {
      const problem = asApiError(error);
      if (problem.kind !== 'stopped') {
        this.toggle.checked = false;
        this.say(problem.message, true);
      }
    } finally {
      if (this.controller === controller) this.progress.hidden = true;
      // The counts are here; the server need not hold the second reading any longer.
      if (second && this.secondId === second)
        this.forgetSecond();
      else if (second)
        this.api.deleteDocument(second);
    }
  }

  forgetSecond() {
    if (this.secondId) this.api.deleteDocument(this.secondId);
    this.secondId = null;
  }

  buildModes(method) {
    const mode = (value, words) => {
      const input = el('input', {
        type: 'radio',
        name: 'kept-mode',
        id: `mode-${value}`,
        checked: value === 'difference',
        onchange: () => this.view.setMode(value)
      });
      return [
        input,
        el('label',
           {for: `mode-${value}`
           },
           words)
      ];
    };
    this.modes.replaceChildren(
        ...mode('first', methodName(this.source.method)), ...mode('second', methodName(method)),
        ...mode('difference', 'Difference'));
    this.modes.hidden = false;
  }
}

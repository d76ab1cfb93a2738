'use strict';

// The card above the messages: which document, how far it is, what it costs, what can be done.

class DocumentCard {
  // `actions`: choose(), readAgain(choice), removeDocument(), showKept(trigger), choice(choice).
  // readAgain(null) reads with the settings that the document had.
  constructor(root, {reader, limits, actions}) {
    this.root = root;
    this.reader = reader;
    this.limits = limits;
    this.actions = actions;
    this.key = '';
    this.expanded = false;
  }

  // Makes the card again only if its shape changes, so that focus stays where it is.
  render(conversation) {
    const document = conversation.document;
    const shown = Boolean(document) || conversation.messages.length > 0;
    this.root.hidden = !shown;
    if (!shown) {
      this.key = '';
      this.expanded = false;
      this.root.replaceChildren();
      return;
    }
    const status = isBeingRead(document) ? 'busy' : document?.status;
    const key = JSON.stringify([
      conversation.id, document?.name, document?.id && status === 'ready' ? document.id : '',
      status, document?.error, this.expanded, document?.method, document?.budget, document?.stored
    ]);
    if (key !== this.key) {
      const focused = this.root.contains(window.document.activeElement) ?
          window.document.activeElement.dataset.focus :
          null;
      this.key = key;
      this.build(conversation, status);
      if (focused)
        (this.root.querySelector(`[data-focus="${focused}"]`) ?? this.root.querySelector('button'))
            ?.focus();
    }
    if (status === 'busy') this.updateProgress(conversation);
  }

  build(conversation, status) {
    const document = conversation.document;
    const {actions} = this;
    const memory = button('Memory', 'memory', () => {
      this.expanded = !this.expanded;
      this.render(conversation);
    }, {'aria-expanded': String(this.expanded), 'data-focus': 'memory'});
    const choose = (words) =>
        button(words, 'attach', () => actions.choose(), {'data-focus': 'choose'});
    const remove = button(
        'Remove the document', 'close', () => actions.removeDocument(),
        {quiet: true, class: 'button quiet remove', 'data-focus': 'remove'});
    this.facts = el('p', {class: 'facts'});
    let buttons = [];
    let extra = null;
    if (!document) {
      this.facts.textContent = 'Questions without a document.';
      buttons = [choose('Add a document'), memory];
    } else if (status === 'busy') {
      this.progress = el('progress', {max: '1', 'aria-label': `Reading ${document.name}`});
      extra = this.progress;
      buttons =
          [button('Cancel', 'close', () => actions.removeDocument(), {'data-focus': 'remove'})];
    } else if (status === 'ready') {
      const whole = !(document.kept < document.tokens);
      this.facts.textContent = `${count(document.tokens, 'token')}, ` +
          (whole ?
               `all kept, ${bytesText(document.kv_bytes)}` :
               `${count(document.kept)} kept (${percentText(document.kept / document.tokens)}), ${
                   bytesText(document.kv_bytes)} instead of ${bytesText(document.full_kv_bytes)}`);
      buttons = [
        button(
            'What is kept', 'kept', (event) => actions.showKept(event.currentTarget),
            {'data-focus': 'kept'}),
        memory
      ];
    } else {
      this.facts.className = 'facts problem';
      this.facts.textContent = (status === 'gone' ? 'The server no longer has this document.' :
                                                    document.error.replace(/[^.!?]$/, '$&.')) +
          (document.stored ? '' : ' The browser does not have the file.');
      const again = button(
          status === 'gone' ? 'Read it again' : 'Try again', 'retry', () => actions.readAgain(null),
          {kind: 'primary', 'data-focus': 'again'});
      buttons = document.stored ? [again, choose('Choose another file')] :
                                  [choose('Choose the file again')];
    }
    const head = el(
        'div', {class: 'card-head'},
        el('span', {class: 'file-mark'}, icon(document ? 'file' : 'memory')),
        el('div', {class: 'card-text'}, document ? el('h2', {}, document.name) : null, this.facts),
        el('div', {class: 'card-buttons'}, buttons), document && status !== 'busy' ? remove : null);
    const parts = [head];
    if (extra) parts.push(extra);
    if (this.expanded && status !== 'busy' && (!document || status === 'ready')) {
      parts.push(memoryControl({
        limits: this.limits,
        choice: document ?? conversation,
        document,
        onchange: (choice) => actions.choice(choice),
        onapply: (choice) => actions.readAgain(choice),
      }));
    }
    this.root.replaceChildren(...parts);
  }

  updateProgress(conversation) {
    const document = conversation.document;
    const left = this.reader.secondsLeft(conversation);
    if (document.status === 'uploading') {
      this.progress.removeAttribute('value');
      this.facts.textContent =
          document.queued ? `${document.queued} It is asked again.` : 'Being sent to the server.';
    } else if (document.status === 'waiting') {
      this.progress.removeAttribute('value');
      this.facts.textContent = 'Waiting for its turn.';
    } else {
      this.progress.value = document.progress;
      const tokens = document.tokens || document.estimate;
      const size = tokens ? ` of ${document.tokens ? '' : 'about '}${count(tokens, 'token')}` : '';
      this.facts.textContent = `${Math.floor(100 * document.progress)}%${size} read${
          left === null ? '' : `, about ${durationText(left)} left`}.`;
      const cost = tokens ? costOf(document, tokens, this.limits) : null;
      if (cost && document.method !== 'full') {
        this.facts.textContent += cost.fraction < 1 ?
            ` ${percentText(cost.fraction)} will be kept.` :
            ' All of it will be kept.';
      }
    }
  }
}

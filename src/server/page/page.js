'use strict';

// The page itself: connects conversations, documents, answers and the panel of what is kept.

const kLongPaste = 2000;                // characters
const kLargestFile = 64 * 1024 * 1024;  // the server's limit for a request
const kUndoMilliseconds = 7000;
const kFileTypes =
    '.txt,.md,.markdown,.html,.htm,.xhtml,.pdf,.csv,.tsv,.json,.jsonl,.xml,.yaml,.yml,.toml,.ini,.log,.tex,.rst,.py,.js,.ts,' +
    '.c,.cc,.cpp,.h,.hpp,.cs,.java,.kt,.go,.rs,.rb,.php,.swift,.sh,.sql,.css,text/*,application/pdf';

const byId = (id) => document.getElementById(id);
const narrow = window.matchMedia('(max-width: 1099px)');

class Page {
  constructor() {
    this.limits = {
      methods: ['restkv'],
      method: 'restkv',  // of questions without a document
      budget: 1024,
      maxBudget: 4096,
      bytesPerToken: 0,
      readsPdf: true,
      model: ''
    };
    this.conversations = new Conversations();
    this.files = new Files();
    this.api = new Api((wrong) => this.askForKey(wrong));
    this.api.onconnection = (connected) => this.showConnection(connected);
    this.reader = new DocumentReader({
      api: this.api,
      files: this.files,
      conversations: this.conversations,
      onupdate: (conversation) => this.documentChanged(conversation)
    });
    this.answerer = new Answerer({
      api: this.api,
      reader: this.reader,
      conversations: this.conversations,
      onupdate: (conversation, message) => this.answerChanged(conversation, message)
    });
    this.drafts = new Map();
    this.follows = true;  // the end of the answer stays in view
    this.conversations.onproblem = () => this.showStorage();
    this.conversations.isInUse = (id) =>
        this.answerer.running.has(id) || this.reader.running.has(id);
    this.conversations.onchange = (id) => this.conversationChangedElsewhere(id);
  }

  async begin() {
    this.buildFrame();
    await this.learnLimits();
    for (const conversation of this.conversations.list()) {
      if (endInterrupted(conversation)) this.conversations.save(conversation);
    }
    const settings = {
      method: kServersChoice,
      budget: this.limits.budget,
      ...this.conversations.settings()
    };
    if (!this.limits.methods.includes(settings.method)) settings.method = kServersChoice;
    settings.budget = this.possibleBudget(settings.budget);
    this.settings = settings;
    this.buildParts();
    const wanted = this.conversations.all.get(window.location.hash.slice(1));
    this.open(wanted ?? this.conversations.list()[0] ?? this.conversations.create(this.settings));
    this.showStorage();
    if (!this.conversations.problem) this.files.keepOnly(new Set(this.conversations.all.keys()));
    document.body.classList.add('begun');
  }

  // The server may still be loading its model, or not be there yet: then this waits and says so.
  async learnLimits() {
    for (;;) {
      try {
        const props = await this.api.json('/props');
        const own = props.restkv ?? {};
        const context = props.default_generation_settings?.n_ctx ?? props.n_ctx;
        this.limits.methods = Array.isArray(own.methods) && own.methods.length ?
            own.methods.map(String) :
            [own.method ?? 'restkv'];
        this.limits.method = own.method ?? this.limits.methods[0];
        this.limits.maxBudget = own.max_budget ?? context ?? 4096;
        const budget = own.documents?.budget ?? own.budget ?? 1024;
        this.limits.budget =
            Number.isFinite(budget) ? Math.min(budget, this.limits.maxBudget) : String(budget);
        this.limits.bytesPerToken = own.kv_bytes_per_token ?? 0;
        this.limits.readsPdf = own.documents?.kinds?.includes('pdf') ?? true;
        this.limits.model = props.model_alias || String(props.model_path ?? '').split('/').pop();
        const models = this.limits.model ? null : await this.api.json('/v1/models');
        if (models) this.limits.model = models.data?.[0]?.id ?? 'a model';
        byId('server-note').textContent = `${this.limits.model} on ${window.location.host}`;
        this.showBanner('');
        return;
      } catch (error) {
        const problem = asApiError(error);
        if (problem.kind === 'key') {
          await new Promise((resolve) => {
            this.showBanner(problem.message, ['Enter the key', resolve]);
          });
        } else {
          this.showBanner(problem.message);
          await sleep(1500);
        }
      }
    }
  }

  // A budget that was chosen once, perhaps when the server had other limits.
  possibleBudget(budget) {
    return Number.isFinite(budget) ? Math.min(budget, this.limits.maxBudget) : this.limits.budget;
  }

  // --- the frame ---

  buildFrame() {
    byId('sidebar-open').append(button('Conversations', 'menu', () => this.showSidebar(true), {
      quiet: true,
      'aria-controls': 'sidebar'
    }));
    byId('sidebar-close').append(button('Close', 'close', () => this.showSidebar(false), {
      quiet: true
    }));
    byId('new-conversation').append(button('New conversation', 'plus', () => {
      this.open(this.conversations.create(this.settings));
      this.showSidebar(false);
      byId('question').focus();
    }, {kind: 'wide', id: 'new-button'}));
    byId('attach').append(
        button('Choose a document', 'attach', () => this.chooseFile(), {quiet: true}));
    this.sendButton =
        button('Send', 'send', () => this.sendOrStop(), {kind: 'primary round', quiet: true});
    byId('send').append(this.sendButton);
    byId('to-end').append(
        button('To the end', 'next', () => this.toEnd(), {kind: 'floating', quiet: true}));
    this.fileInput = byId('file');
    this.fileInput.accept = kFileTypes;
    this.fileInput.addEventListener('change', () => {
      const [file] = this.fileInput.files;
      this.fileInput.value = '';
      if (file) this.takeFile(file);
    });
    byId('composer').addEventListener('submit', (event) => event.preventDefault());
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && document.body.classList.contains('sidebar-shown'))
        this.showSidebar(false);
    });
    narrow.addEventListener('change', () => this.updateInert());
    this.buildDropping();
    this.buildQuestion();
    byId('scroll').addEventListener('scroll', () => this.scrolled(), {passive: true});
    window.addEventListener('pagehide', () => {
      if (this.current) this.conversations.save(this.current);
      this.kept?.forgetSecond();
    });
    // The address names the conversation, so the link must not change it.
    document.querySelector('.skip').addEventListener('click', (event) => {
      event.preventDefault();
      byId('question').focus();
    });
    this.updateInert();
  }

  buildParts() {
    const showDocument = (trigger) => this.showKept(this.documentSource(), trigger);
    this.card = new DocumentCard(byId('document'), {
      reader: this.reader,
      limits: this.limits,
      actions: {
        choose: () => this.chooseFile(),
        removeDocument: () => {
          this.reader.remove(this.current);
          this.kept.isOpen && this.kept.close();
          byId('question').focus();
        },
        readAgain: (choice) => this.readAgain(choice),
        showKept: showDocument,
        choice: (choice) => this.setChoice(choice),
      }
    });
    this.list = new MessageList(byId('messages'), {
      retry: (message) => this.askAgain(message, null),
      edit: (message, text) => this.askAgain(message, text),
      showKept: (message, trigger) => this.showKept(
          {
            kind: 'sequence',
            id: message.id,
            method: this.current.document?.method ?? (this.current.method || this.limits.method),
            budget: this.current.document?.budget ?? this.current.budget
          },
          trigger),
    });
    this.kept = new KeptPanel(byId('kept'), {
      api: this.api,
      files: this.files,
      limits: this.limits,
      onclose: (isOpen) => {
        document.body.classList.toggle('kept-shown', isOpen);
        this.updateInert();
      }
    });
  }

  buildQuestion() {
    const field = byId('question');
    const grow = () => {
      field.style.setProperty('block-size', 'auto');
      field.style.setProperty('block-size', `${Math.min(220, field.scrollHeight)}px`);
      this.updateSend();
    };
    this.growQuestion = grow;
    field.addEventListener('input', () => {
      this.drafts.set(this.current?.id, field.value);
      grow();
    });
    field.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    });
    field.addEventListener('paste', (event) => {
      const [file] = event.clipboardData?.files ?? [];
      const text = event.clipboardData?.getData('text/plain') ?? '';
      if (file && !text) {
        event.preventDefault();
        this.takeFile(file);
      } else if (text.length >= kLongPaste)
        this.offerDocument(text);
    });
  }

  offerDocument(text) {
    const offer = byId('paste-offer');
    const close = () => {
      offer.hidden = true;
      byId('question').focus();
    };
    const accept = () => {
      const field = byId('question');
      // A text field changes line ends when text is pasted.
      field.value = field.value.replace(text.replace(/\r\n?/g, '\n'), () => '').trim();
      field.dispatchEvent(new Event('input'));
      close();
      this.takeFile(new File([text], 'Pasted text.txt', {type: 'text/plain'}));
    };
    offer.replaceChildren(
        el('p', {},
           `That is a long text (${
               count(text.length, 'character')}). Shall it become the document?`),
        el('div', {}, button('Make it the document', 'file', accept, {kind: 'primary'}),
           button('Keep it in the question', null, close)));
    offer.hidden = false;
    announce('That is a long text. It can become the document.');
  }

  buildDropping() {
    let depth = 0;
    const veil = byId('drop');
    // A text field takes dragged words itself, but it has no use for a file.
    const isForUs = (event) => {
      const types = [...(event.dataTransfer?.types ?? [])];
      return types.includes('Files') ||
          (types.includes('text/plain') && !event.target.closest?.('textarea, input'));
    };
    const show = (shown) => {
      veil.hidden = !shown;
    };
    document.addEventListener('dragenter', (event) => {
      ++depth;
      if (!isForUs(event)) return;
      event.preventDefault();
      show(true);
    });
    document.addEventListener('dragleave', () => {
      depth = Math.max(0, depth - 1);
      if (!depth) show(false);
    });
    document.addEventListener('dragover', (event) => {
      if (isForUs(event)) event.preventDefault();
    });
    document.addEventListener('drop', (event) => {
      depth = 0;
      show(false);
      if (!isForUs(event)) return;
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      const text = event.dataTransfer.getData('text/plain');
      if (file)
        this.takeFile(file);
      else if (text) {
        this.takeFile(new File([text], 'Dropped text.txt', {type: 'text/plain'}));
      }
    });
  }

  // Panels that cover the page keep the keyboard within themselves.
  updateInert() {
    const sidebar = narrow.matches && document.body.classList.contains('sidebar-shown');
    const kept = narrow.matches && document.body.classList.contains('kept-shown');
    byId('main').inert = sidebar || kept;
    byId('sidebar').inert = kept || (narrow.matches && !sidebar);
    byId('kept').inert = sidebar;
    byId('sidebar-open').querySelector('button')?.setAttribute('aria-expanded', String(sidebar));
  }

  showSidebar(shown) {
    if (!narrow.matches) return;
    document.body.classList.toggle('sidebar-shown', shown);
    this.updateInert();
    (shown ? byId('new-button') : byId('sidebar-open').querySelector('button')).focus();
  }

  showBanner(text, action = null) {
    const banner = byId('banner');
    banner.hidden = !text;
    if (banner.dataset.text === text) return;
    banner.dataset.text = text;
    banner.replaceChildren(
        ...(text ? [el('p', {}, text)] : []),
        ...(action ? [button(action[0], null, action[1])] : []));
  }

  showConnection(connected) {
    if (connected) {
      if (this.waitsForServer) {
        this.waitsForServer = false;
        this.showBanner('');
        announce('The server is back.');
      }
      return;
    }
    if (this.waitsForServer) return;
    this.waitsForServer = true;
    this.showBanner(
        'The server does not answer. It may have been stopped. This page tries again by itself.');
    const probe = async () => {
      while (this.waitsForServer) {
        await sleep(2500);
        try {
          await fetch('./health', {cache: 'no-store'});
          this.showConnection(true);
        } catch {
          // Not yet.
        }
      }
    };
    probe();
  }

  showStorage() {
    const note = byId('storage-note');
    const texts = {
      none: 'This browser keeps nothing for this page. Conversations end with it.',
      full:
          'The storage of this browser is full. New messages are not kept. Delete conversations to make room.'
    };
    const text = texts[this.conversations.problem] ?? '';
    note.hidden = !text;
    note.textContent = text;
    if (this.conversations.problem === 'full') this.toast(text);
  }

  toast(text, action = null) {
    const toast = byId('toast');
    window.clearTimeout(this.toastTimer);
    const close = () => {
      toast.hidden = true;
    };
    toast.replaceChildren(el('span', {}, text), ...(action ? [button(action[0], null, () => {
                            close();
                            action[1]();
                          })] : []), button('Close', 'close', close, {quiet: true}));
    toast.hidden = false;
    this.toastTimer = window.setTimeout(close, kUndoMilliseconds);
  }

  askForKey(wrong) {
    const dialog = byId('key-dialog');
    return new Promise((resolve) => {
      const field = el('input', {
        type: 'password',
        id: 'api-key',
        autocomplete: 'off',
        spellcheck: 'false',
        'aria-describedby': 'key-help'
      });
      let result = null;
      const form =
          el('form', {'aria-labelledby': 'key-title'}, el('h2', {id: 'key-title'}, 'API key'),
             el('p', {id: 'key-help', class: wrong ? 'problem' : null},
                wrong ? 'The server does not accept this key.' :
                        'This server asks for a key. Whoever runs it can tell you.'),
             el('label',
                {for: 'api-key'
                },
                'Key'),
             field, el('p', {class: 'hint'}, 'It is kept until this tab is closed.'),
             el('div', {class: 'edit-buttons'}, button('Cancel', null, () => dialog.close()),
                el('button', {type: 'submit', class: 'button primary'}, 'Use this key')));
      form.addEventListener('submit', (event) => {
        event.preventDefault();
        result = field.value.trim() || null;
        dialog.close();
      });
      dialog.replaceChildren(form);
      dialog.addEventListener('close', () => resolve(result), {once: true});
      dialog.showModal();
      field.focus();
    });
  }

  // --- conversations ---

  open(conversation) {
    if (this.current) this.drafts.set(this.current.id, byId('question').value);
    if (this.current && this.current !== conversation && !this.current.messages.length &&
        !this.current.document) {
      this.conversations.all.delete(this.current.id);
    }
    this.current = conversation;
    this.follows = true;
    window.history.replaceState(null, '', `#${conversation.id}`);
    if (this.kept.isOpen) this.kept.close();
    byId('question').value = this.drafts.get(conversation.id) ?? '';
    byId('paste-offer').hidden = true;
    this.growQuestion();
    this.list.render(conversation);
    this.showAll();
    if (conversation.messages.length)
      this.toEnd();
    else
      byId('scroll').scrollTop = 0;
    this.reader.check(conversation);
  }

  showAll() {
    this.showStart();
    this.card.render(this.current);
    this.showTitle();
    this.showList();
    this.updateSend();
  }

  titleOf(conversation) {
    return conversation.title || conversation.document?.name || 'New conversation';
  }

  showTitle() {
    const title = this.titleOf(this.current);
    byId('title').textContent = title;
    document.title =
        this.current.messages.length || this.current.document ? `${title} \u2013 restkv` : 'restkv';
    const name = this.current.document?.name;
    byId('question').placeholder =
        name ? `Ask about ${name.length > 32 ? 'the document' : name}` : 'Ask something';
  }

  showStart() {
    const start = byId('start');
    const empty = !this.current.messages.length && !this.current.document;
    start.hidden = !empty;
    if (!empty) {
      start.replaceChildren();
      this.startOf = null;
      return;
    }
    if (this.startOf === this.current.id) return;
    this.startOf = this.current.id;
    start.replaceChildren(
        el('h2', {}, 'Ask about a long document'),
        el('p', {class: 'lead'},
           'It is read once. What matters for answers stays in a small memory, and you can see what that is.'),
        el('div', {class: 'drop-zone'}, icon('upload'), el('p', {}, 'Drop a file here'),
           button('Choose a file', 'file', () => this.chooseFile(), {kind: 'primary'}),
           el('p', {class: 'hint'}, this.kindsText(), ' It goes to the server at ',
              el('span', {class: 'host'}, window.location.host), ' and nowhere else.')),
        memoryControl({
          limits: this.limits,
          choice: {method: this.current.method, budget: this.current.budget},
          document: null,
          onchange: (choice) => this.setChoice(choice)
        }));
  }

  kindsText() {
    return this.limits.readsPdf ?
        'Text, Markdown, HTML, code or PDF. Of HTML and PDF the text is read, not the pictures.' :
        'Text, Markdown, HTML or code. This server cannot read PDF: pdftotext is not installed there.';
  }

  showList() {
    const list = byId('conversation-list');
    const conversations = this.conversations.list();
    const key =
        JSON.stringify([this.current.id, conversations.map((one) => [one.id, this.titleOf(one)])]);
    if (key === this.listKey) return;
    this.listKey = key;
    list.replaceChildren(...conversations.map((conversation) => {
      const title = this.titleOf(conversation);
      return el(
          'li', {class: conversation === this.current ? 'current' : null},
          el('button', {
            type: 'button',
            class: 'conversation',
            title,
            'aria-current': conversation === this.current ? 'true' : null,
            onclick: () => {
              this.open(conversation);
              this.showSidebar(false);
            }
          },
             title),
          button(
              `Delete \u201c${title}\u201d`, 'remove', () => this.removeConversation(conversation),
              {quiet: true, kind: 'small'}));
    }));
  }

  removeConversation(conversation) {
    this.answerer.stop(conversation);
    this.conversations.remove(conversation.id);
    if (conversation === this.current) {
      this.current = null;
      this.open(this.conversations.list()[0] ?? this.conversations.create(this.settings));
    } else
      this.showList();
    (byId('conversation-list').querySelector('button') ?? byId('new-button')).focus();
    const timer = window.setTimeout(() => {
      if (conversation.document?.id) this.reader.release(conversation.document.id, conversation);
      this.files.remove(conversation.id);
    }, kUndoMilliseconds);
    this.toast('The conversation is deleted.', [
      'Undo',
      () => {
        window.clearTimeout(timer);
        this.conversations.restore(conversation);
        this.open(conversation);
      }
    ]);
  }

  conversationChangedElsewhere(id) {
    if (!this.current) return;
    if (this.current.id === id && this.conversations.all.get(id) === this.current)
      this.list.render(this.current);
    this.listKey = '';
    this.showAll();
  }

  setChoice(choice) {
    this.settings = choice;
    this.conversations.saveSettings(choice);
    this.current.method = choice.method;
    this.current.budget = choice.budget;
    if (!this.current.document) this.conversations.save(this.current);
  }

  // --- documents ---

  chooseFile() {
    this.fileInput.click();
  }

  async takeFile(file) {
    const conversation = this.current;
    if (file.size === 0) return this.toast(`\u201c${file.name}\u201d is empty.`);
    if (file.size > kLargestFile)
      return this.toast(`\u201c${file.name}\u201d is larger than ${bytesText(kLargestFile)}.`);
    const head = new Uint8Array(await file.slice(0, 8192).arrayBuffer());
    const isPdf = String.fromCharCode(...head.slice(0, 5)) === '%PDF-';
    const isWide = head[0] + head[1] === 0xff + 0xfe;  // the mark of UTF-16
    if (isPdf && !this.limits.readsPdf) {
      return this.toast(`\u201c${
          file.name}\u201d is a PDF, and pdftotext is not installed on this server. Save its text.`);
    }
    if (!isPdf && !isWide && head.includes(0)) {
      return this.toast(
          `\u201c${file.name}\u201d is neither text nor PDF. Save it as one of these first.`);
    }
    this.reader.read(
        conversation, file, file.name, {method: conversation.method, budget: conversation.budget});
    byId('question').focus();
    return undefined;
  }

  // Without a choice with the settings the document had.
  async readAgain(choice) {
    const conversation = this.current;
    const stored = await this.files.get(conversation.id);
    if (!stored) {
      this.toast(
          'The browser no longer has the file. Choose it again.',
          ['Choose', () => this.chooseFile()]);
      return;
    }
    const {method, budget} = conversation.document;
    this.reader.read(conversation, stored.file, stored.name, choice ?? {method, budget});
  }

  documentChanged(conversation) {
    if (conversation !== this.current) return;
    const document = conversation.document;
    const news = `${document?.id} ${document?.status}`;
    this.showAll();
    if (news === this.documentNews) return;
    this.documentNews = news;
    if (!document) return;
    if (document.status === 'ready') {
      announce(`${document.name} has been read. ${count(document.kept)} of ${
          count(document.tokens, 'token')} are kept.`);
      if (this.kept.isOpen) this.showKept(this.documentSource(), null);
    } else if (document.status === 'uploading')
      announce(`${document.name} is being read.`);
    else if (document.status === 'failed')
      announce(`${document.name} could not be read. ${document.error}`);
    else if (document.status === 'gone')
      announce(`The server no longer has ${document.name}.`);
  }

  documentSource() {
    const {id, name, method, budget, kept} = this.current.document;
    return {kind: 'document', id, name, method, budget, kept};
  }

  showKept(source, trigger) {
    this.kept.open(this.current, source, trigger);
  }

  // --- questions ---

  updateSend() {
    const running = this.current && this.answerer.isRunning(this.current);
    const words = running ? 'Stop' : 'Send';
    this.sendButton.disabled = !this.current || (!running && !byId('question').value.trim());
    if (this.sendButton.title === words) return;
    this.sendButton.title = words;
    this.sendButton.setAttribute('aria-label', words);
    this.sendButton.replaceChildren(icon(running ? 'stop' : 'send'));
  }

  sendOrStop() {
    if (this.current && this.answerer.isRunning(this.current)) {
      this.answerer.stop(this.current);
      byId('question').focus();
    } else
      this.send();
  }

  send() {
    const field = byId('question');
    const text = field.value.trim();
    if (!text || !this.current || this.answerer.isRunning(this.current)) return;
    field.value = '';
    this.drafts.delete(this.current.id);
    byId('paste-offer').hidden = true;
    this.growQuestion();
    this.follows = true;
    announce('Asked.');
    this.answerer.ask(this.current, text);
  }

  // Repeats a question from `message` on, changed if `text` is given.
  askAgain(message, text) {
    const conversation = this.current;
    if (this.answerer.isRunning(conversation)) {
      this.toast('Stop the answer that is being written first.');
      return;
    }
    const at = conversation.messages.indexOf(message);
    const question = message.role === 'user' ? at : at - 1;
    const old = conversation.messages[question + 1];
    const words = text ?? conversation.messages[question].content;
    if (question === 0 &&
        conversation.title === conversation.messages[0].content.trim().slice(0, 80))
      conversation.title = '';
    conversation.messages.splice(question);
    this.follows = true;
    this.answerer.ask(
        conversation, words, text === null && old?.content ? (old.attempt ?? 0) + 1 : 0);
    byId('question').focus();
  }

  answerChanged(conversation, message) {
    if (conversation !== this.current) {
      this.showList();
      return;
    }
    if (this.list.views.has(message)) {
      this.list.update(message, () => this.keepEndInView());
      if (message.state !== 'streaming') this.showAll();
    } else {
      this.list.render(conversation);
      this.showAll();
      this.keepEndInView();
    }
  }

  // --- scrolling ---

  scrolled() {
    const box = byId('scroll');
    const rest = box.scrollHeight - box.scrollTop - box.clientHeight;
    this.follows = rest < 60;
    byId('to-end').classList.toggle('shown', rest > 240);
  }

  keepEndInView() {
    if (this.follows)
      byId('scroll').scrollTop = byId('scroll').scrollHeight;
    else
      this.scrolled();
  }

  toEnd() {
    byId('scroll').scrollTop = byId('scroll').scrollHeight;
    this.scrolled();
  }
}

const page = new Page();
page.begin();

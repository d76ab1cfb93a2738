'use strict';

// Questions and answers of a conversation: the stream of an answer and the list on the page.

const kBusyTries = 30;
const kAnswerTokens = 1024;

class Answerer {
  // `onupdate(conversation, message)` is called at every change of an answer.
  constructor({api, reader, conversations, onupdate}) {
    this.api = api;
    this.reader = reader;
    this.conversations = conversations;
    this.onupdate = onupdate;
    this.running = new Map();  // by conversation
  }

  isRunning(conversation) {
    return this.running.has(conversation.id);
  }

  stop(conversation) {
    this.running.get(conversation.id)?.abort();
  }

  // Asks, or asks again with `attempt` > 0: a repeated answer may differ.
  async ask(conversation, question, attempt = 0) {
    const message =
        {role: 'assistant', content: '', reasoning: '', state: 'waiting', note: '', attempt};
    conversation.messages.push({role: 'user', content: question}, message);
    conversation.updated = Date.now();
    if (!conversation.title) conversation.title = question.trim().slice(0, 80);
    const controller = new AbortController();
    this.running.set(conversation.id, controller);
    this.conversations.save(conversation);
    this.onupdate(conversation, message);
    try {
      if (isBeingRead(conversation.document)) {
        message.note = 'The answer begins when the document has been read.';
        this.onupdate(conversation, message);
        await this.reader.ready(conversation, controller.signal);
        message.note = '';
        this.onupdate(conversation, message);
      }
      if (conversation.document) await this.reader.ready(conversation, controller.signal);
      await this.stream(conversation, message, controller.signal);
      message.state = 'done';
    } catch (error) {
      const problem = asApiError(error);
      const begun = Boolean(message.content || message.reasoning);
      message.state = problem.kind === 'stopped' ? 'stopped' : begun ? 'broken' : 'failed';
      message.note = problem.kind === 'stopped' ? 'Stopped.' :
          begun                                 ? `The answer ends here. ${problem.message}` :
                                                  problem.message;
      if (conversation.document && problem.status === 404) {
        await this.reader.markGone(conversation, conversation.document);
        message.note = `The server no longer has \u201c${
            conversation.document.name}\u201d. Read it again, then try again.`;
      }
    }
    this.running.delete(conversation.id);
    conversation.updated = Date.now();
    this.conversations.save(conversation);
    this.onupdate(conversation, message);
    announce(
        message.state === 'done' ?
            `Answer complete, ${
                count(message.content.split(/\s+/).filter(Boolean).length, 'word')}.` :
            message.note);
  }

  async stream(conversation, message, signal) {
    const body = {
      messages: this.history(conversation),
      max_tokens: kAnswerTokens,
      temperature: message.attempt ? 0.7 : 0
    };
    if (conversation.document)
      body.document = conversation.document.id;
    else
      body.restkv = wishOf(conversation);
    let saved = performance.now();
    let began = 0;
    const ondelta = (chunk) => {
      const choice = chunk.choices?.[0];
      const delta = choice?.delta ?? {};
      if (typeof chunk.id === 'string') message.id = chunk.id;
      if (typeof delta.reasoning_content === 'string') message.reasoning += delta.reasoning_content;
      if (typeof delta.content === 'string') message.content += delta.content;
      if (chunk.usage) message.usage = chunk.usage;
      if (chunk.restkv) message.restkv = chunk.restkv;
      if (choice?.finish_reason === 'length')
        message.note =
            'The answer reached its longest length. Ask it to go on if something is missing.';
      if (!delta.content && !delta.reasoning_content) return;
      began ||= performance.now();
      message.state = 'streaming';
      message.seconds = (performance.now() - began) / 1000;
      if (performance.now() - saved > 1500) {
        saved = performance.now();
        this.conversations.save(conversation);
      }
      this.onupdate(conversation, message);
    };
    for (let tries = 0;; ++tries) {
      try {
        await this.api.chat(body, signal, ondelta);
        return;
      } catch (error) {
        const problem = asApiError(error);
        if (problem.kind !== 'busy' || tries >= kBusyTries) throw problem;
        for (let left = Math.ceil(problem.retryAfter); left > 0; --left) {
          message.note = `${problem.message} Next try in ${durationText(left)}.`;
          this.onupdate(conversation, message);
          await sleep(1000, signal);
        }
        message.note = '';
        this.onupdate(conversation, message);
      }
    }
  }

  // What the model gets to see: a question that was never answered would stand beside the next one.
  history(conversation) {
    const list = [];
    const {messages} = conversation;
    for (let i = 0; i + 1 < messages.length; i += 2) {
      const question = messages[i];
      const answer = messages[i + 1];
      const isLast = i + 2 >= messages.length;
      if (!isLast && !answer.content) continue;
      list.push({role: 'user', content: question.content});
      if (!isLast) list.push({role: 'assistant', content: answer.content});
    }
    return list;
  }
}

// After a reload nothing streams any more.
function endInterrupted(conversation) {
  let changed = false;
  for (const message of conversation.messages) {
    if (message.state !== 'streaming' && message.state !== 'waiting') continue;
    message.state = message.content ? 'broken' : 'failed';
    message.note = 'The page was closed before the answer ended.';
    changed = true;
  }
  return changed;
}

class AnswerView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.thinking = el('div', {class: 'thinking-text'});
    this.summary = el('summary', {});
    this.details = el('details', {class: 'thinking', hidden: true}, this.summary, this.thinking);
    this.text = el('div', {class: 'markdown'});
    this.dots =
        el('p', {class: 'dots'}, el('span', {class: 'away'}, 'Waiting for the answer'), el('i', {}),
           el('i', {}), el('i', {}));
    this.note = el('p', {class: 'notice', hidden: true});
    this.footer = el('div', {class: 'answer-foot'});
    this.markdown = new MarkdownView(this.text);
    this.node =
        el('li', {class: 'answer'}, el('h3', {class: 'away'}, 'Answer'), this.details, this.text,
           this.dots, this.note, this.footer);
    this.update();
  }

  update() {
    const {message} = this;
    const running = message.state === 'waiting' || message.state === 'streaming';
    this.markdown.update(message.content);
    this.dots.hidden = message.state !== 'waiting' && !(running && !message.content);
    this.node.setAttribute('aria-busy', String(running));
    this.details.hidden = !message.reasoning;
    if (message.reasoning) {
      this.thinking.textContent = message.reasoning.trim();
      const words = running && !message.content ? 'Thinking' : 'How it was thought out';
      if (this.summary.textContent !== words) this.summary.textContent = words;
    }
    this.note.hidden = !message.note;
    if (this.note.textContent !== message.note) this.note.textContent = message.note;
    this.note.classList.toggle('problem', message.state === 'broken' || message.state === 'failed');
    const state = running ? 'running' : JSON.stringify([message.state, message.note]);
    if (state === this.state) return;
    this.state = state;
    this.footer.replaceChildren();
    if (running) return;
    const {actions} = this;
    const buttons = [];
    if (message.content)
      buttons.push(
          copyButton(() => message.content, 'Copy the answer', {kind: 'small', quiet: true}));
    buttons.push(button(
        'Try again', 'retry', () => actions.retry(message),
        message.content ? {kind: 'small', quiet: true} : {kind: 'small'}));
    if (message.id && message.restkv) {
      buttons.push(button(
          'What is kept', 'kept', (event) => actions.showKept(message, event.currentTarget),
          {kind: 'small'}));
    }
    this.footer.append(
        el('div', {class: 'answer-buttons'}, buttons), el('p', {class: 'hint'}, this.facts()));
  }

  facts() {
    const {restkv, usage, seconds} = this.message;
    const parts = [];
    if (restkv?.kv_bytes) {
      parts.push(
          restkv.full_kv_bytes > restkv.kv_bytes ?
              `${bytesText(restkv.kv_bytes)} of memory instead of ${
                  bytesText(restkv.full_kv_bytes)}` :
              `${bytesText(restkv.kv_bytes)} of memory`);
    }
    if (usage?.completion_tokens > 1 && seconds > 0.2)
      parts.push(`${((usage.completion_tokens - 1) / seconds).toFixed(1)} tokens per second`);
    return parts.join(', ');
  }
}

class MessageList {
  // `actions`: retry(message), edit(message, text), showKept(message, trigger).
  constructor(root, actions) {
    this.root = root;
    this.actions = actions;
    this.views = new Map();
    this.pending = new Set();
  }

  render(conversation) {
    this.conversation = conversation;
    this.views.clear();
    this.root.hidden = conversation.messages.length === 0;
    this.root.replaceChildren(...conversation.messages.map((message) => {
      if (message.role === 'user') return this.questionNode(message);
      const view = new AnswerView(message, this.actions);
      this.views.set(message, view);
      return view.node;
    }));
  }

  // Many tokens may arrive between two pictures of the screen; one update is enough for them.
  update(message, after) {
    if (this.pending.has(message)) return;
    this.pending.add(message);
    const work = () => {
      if (!this.pending.delete(message)) return;
      this.views.get(message)?.update();
      after();
    };
    window.requestAnimationFrame(work);
    // A page in the background draws nothing, but its text should be complete.
    window.setTimeout(work, 200);
  }

  questionNode(message) {
    const text = el('div', {class: 'question-text', dir: 'auto'}, message.content);
    const edit = button(
        'Edit the question', 'edit', () => node.replaceWith(this.editNode(message, node)),
        {kind: 'small', quiet: true});
    const node = el('li', {class: 'question'}, el('h3', {class: 'away'}, 'Question'), text, edit);
    return node;
  }

  editNode(message, original) {
    const field = el('textarea', {'aria-label': 'Question', rows: '3', value: message.content});
    const cancel = () => {
      node.replaceWith(original);
      original.querySelector('button').focus();
    };
    const send = () => {
      if (field.value.trim()) this.actions.edit(message, field.value.trim());
    };
    const node =
        el('li', {class: 'question editing'}, field,
           el('p', {class: 'hint'}, 'What follows this question is replaced.'),
           el('div', {class: 'edit-buttons'}, button('Cancel', null, cancel),
              button('Ask again', 'send', send, {kind: 'primary'})));
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') cancel();
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      }
    });
    window.setTimeout(() => field.focus(), 0);
    return node;
  }
}
